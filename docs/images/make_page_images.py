"""Make the README's pictures of the build page from real builds of the example app: one that fails, and one that succeeds.

    PYTHONPATH=tests .venv/bin/python docs/images/make_page_images.py

It needs Chromium and the npm registry. Use an idle machine, because the pictures show how long each stage took, and look at
them before committing them. The fonts are the machine's own: Inter and JetBrains Mono look as on a reader's machine.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from support.browser import PHONE, Tab, chromium
from support.gateway import Gateway
from support.harness import Program, Redis, Repositories, free_port
from support.s3_server import s3_server

HERE = Path(__file__).parent
SLUG = "my-site"
DESKTOP: dict[str, Any] = {"viewport": {"width": 1080, "height": 640}}
PICTURES: dict[str, tuple[int, dict[str, Any]]] = {  # name → (which build, how the browser is set up)
    "page-failed.png": (1, {**DESKTOP, "color_scheme": "light"}),
    "page-succeeded.png": (0, {**DESKTOP, "color_scheme": "dark"}),
    "page-phone.png": (1, {**PHONE, "device_scale_factor": 1.5, "viewport": {"width": 390, "height": 640}}),
}


def main() -> None:
    """Build the example twice, the second time with a type error, and photograph both pages."""
    with tempfile.TemporaryDirectory() as name, s3_server() as s3:
        folder = Path(name)
        folder.chmod(0o755)
        s3.make_bucket("sites")
        redis = Redis(free_port(), folder)
        try:
            program = Program(redis, s3, folder)
            builds = build_twice(program, Repositories(folder))
            gateway = Gateway(program, SITE_URL="https://{slug}.example.com")
            try:
                photograph(gateway.port, builds)
            finally:
                gateway.close()
        finally:
            redis.kill()


def build_twice(program: Program, repositories: Repositories) -> list[str]:
    """Return the ids of a build that succeeds and of one that fails."""
    repository = repositories.example()
    first = program.run(repository, SLUG=SLUG, timeout=300)
    broken = 'export const title: number = "hello"\n' + (repository / "src" / "App.tsx").read_text()
    repositories.commit(repository, {"src/App.tsx": broken})
    second = program.run(repository, SLUG=SLUG, timeout=300)
    assert (first.code, second.code) == (0, 40), (first.stdout, second.stdout)
    return [str(run.result["build"]) for run in (first, second)]


def photograph(port: int, builds: list[str]) -> None:
    with chromium() as browser:
        for name, (index, options) in PICTURES.items():
            tab = Tab(browser, **options).open(f"http://127.0.0.1:{port}/sites/{SLUG}/builds/{builds[index]}")
            expect(tab.page.locator(".previous" if index else "#visit")).to_be_attached()
            expect(tab.state).to_have_text("Failed" if index else "Succeeded")
            tab.page.wait_for_timeout(500)
            tab.page.screenshot(path=HERE / name)
            tab.close()


if __name__ == "__main__":
    main()
