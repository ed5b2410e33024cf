"""Describe Create React App: https://create-react-app.dev/docs/advanced-configuration."""

from __future__ import annotations

import re
from collections.abc import Sequence

from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.record import Framework
from buildrunner.project.scripts import ScriptCommand


def _find_output(app: App, commands: Sequence[ScriptCommand]) -> list[str]:
    found = [command.environment["BUILD_PATH"] for command in commands if "BUILD_PATH" in command.environment]
    for name in (".env.production.local", ".env.production", ".env.local", ".env"):
        found += re.findall(r"(?m)^[ \t]*BUILD_PATH[ \t]*=[ \t]*[\"']?([^\s\"'#]+)", app.read(name) or "")
    return found


CREATE_REACT_APP = Framework(
    name="Create React App",
    packages=("react-scripts", "react-scripts-ts"),
    commands="(react-scripts|react-scripts-ts|react-app-rewired|craco|rescripts) build",
    output=("build",),
    find_output=_find_output,
    suggested_command="react-scripts build",
    base_setting="homepage in package.json",
    openssl_3=(("react-scripts", 5),),
)
