"""Report internal errors to the operator where the build can continue without the failed step."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from buildrunner.errors import BuildEnded


class FaultReporter:
    """Print internal errors of buildrunner on stderr for the operator.

    Args:
        redact: function that replaces secrets in a text.

    """

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact

    def report(self, error: Exception) -> None:
        """Print the traceback of an internal error, unless nobody reads stderr."""
        with suppress(OSError):
            print(self._redact("".join(traceback.format_exception(error))), file=sys.stderr, flush=True)

    @contextmanager
    def tolerate(self) -> Iterator[None]:
        """Run an optional step: report an internal error in it and continue the build."""
        try:
            yield
        except BuildEnded:
            raise
        except Exception as error:
            self.report(error)
