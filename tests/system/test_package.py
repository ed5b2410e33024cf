"""The package as people install it: a wheel and an sdist, by pip in a clean environment."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from buildrunner import __version__
from support.harness import ROOT


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the wheel and the sdist that `make package` makes."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_wheel_and_sdist_install_in_a_clean_environment(packages: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, sdist = packages
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True, timeout=120)
    pip = [sys.executable, "-m", "pip", "--python", str(tmp_path / "bin" / "python"), "--quiet"]
    pip += ["--disable-pip-version-check", "install", "--no-compile"]

    for package in ([str(wheel)], ["--force-reinstall", "--no-deps", str(sdist)]):
        installed = subprocess.run([*pip, *package], capture_output=True, text=True, timeout=600, check=False)
        assert installed.returncode == 0, installed.stderr
        program = [str(tmp_path / "bin" / "buildrunner"), "--version"]
        ran = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
        assert (ran.returncode, ran.stdout) == (0, f"buildrunner {__version__}\n")


def test_the_wheel_has_every_file_of_the_package(packages: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(packages[0]).namelist())
    sources = ROOT / "src"
    wanted = {
        str(path.relative_to(sources))
        for path in (sources / "buildrunner").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    assert wanted <= names


def test_the_sdist_has_the_sources_and_no_secrets(packages: tuple[Path, Path]) -> None:
    with tarfile.open(packages[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"pyproject.toml", "LICENSE", "src/buildrunner/__main__.py", "tests/support/harness.py"} <= names
    assert not [name for name in names if name.startswith((".venv", "node_modules", ".git/"))]
