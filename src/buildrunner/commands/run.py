"""`buildrunner run` and `buildrunner publish`: one build by the environment."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence

import anyio


def run(environment: Mapping[str, str], early_signals: Sequence[int]) -> int:
    """Run one build and return its exit code.

    Raises:
        ConfigurationError: a variable is missing or malformed.

    """
    return _run(environment, early_signals, None)


def publish(environment: Mapping[str, str], early_signals: Sequence[int], folder: str) -> int:
    """Publish a folder and return the exit code.

    Raises:
        ConfigurationError: a variable is missing or malformed, or there is no such folder.

    """
    return _run(
        environment, early_signals, folder and os.path.realpath(folder)
    )  # that of an empty path is the working directory


def _run(environment: Mapping[str, str], early_signals: Sequence[int], folder: str | None) -> int:
    gc.disable()  # until the imports are done (`lifecycle`): 0.05 s of 0.65 s of CPU
    from buildrunner.build.runner import run_build
    from buildrunner.config.settings import read_settings

    settings = read_settings(environment, publishes=folder)
    return anyio.run(run_build, settings, early_signals, folder)
