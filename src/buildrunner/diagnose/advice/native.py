"""Explain failures of packages with native code, and of packages that download a program during the install."""

from __future__ import annotations

import re

from buildrunner.diagnose.rule import FailedCommand


def node_sass(failed: FailedCommand, _: str) -> str:
    """Explain a failure of node-sass, by the version of Node.js."""
    replace = f"Replace node-sass with sass: remove it from package.json and run `{failed.words['add_dev']} sass`."
    if failed.node_major and failed.node_major <= 16:
        return f"node-sass is abandoned, and has no build for Node {failed.node}. {replace}"
    return f"node-sass is abandoned, and works only with old Node versions. {replace} Or set NODE_VERSION=16."


def image_tool(_: FailedCommand, name: str) -> str:
    """Explain an image tool that has no binary for this machine."""
    plugin = {"cwebp": "webp", "cjpeg": "mozjpeg"}.get(name, name)
    return (
        f"The image tool {name} has no binary for this machine, and cannot be compiled here. Optimize the images with sharp"
        f" instead, and remove imagemin-{plugin}, which depends on it, from package.json."
    )


def native_compilation(failed: FailedCommand, _: str) -> str:
    """Explain a package that cannot be compiled, and name the missing program."""
    package = re.search(
        r"(?:npm (?:error|ERR!) path|gyp ERR! cwd|Directory:) \S{1,300}/node_modules/(?P<name>(?:@[\w.-]{1,100}/)?[\w.-]{1,100})",
        failed.text,
    )
    what = package["name"] if package else "A package with native code"
    lacks = next(
        (
            program
            for program, said in (
                ("Python", r"gyp ERR! find Python|Can't find Python executable"),
                ("make", r"gyp ERR! stack Error: not found: make"),
                ("C++ compiler", r"(?:g\+\+|c\+\+|gcc|cc): (?:not found|No such file|command not found)"),
            )
            if re.search(said, failed.text)
        ),
        "Python, make or compiler",
    )
    node = f"Node {failed.node_major}" if failed.node_major else "this Node"
    return (
        f"{what} has to be compiled for {node}, and the machine has no suitable {lacks}. Install a version of the package with"
        " binaries, or set NODE_VERSION to a version that it has binaries for. Or use an image with Python, make and g++."
    )
