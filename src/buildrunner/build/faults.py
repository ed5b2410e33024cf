"""Report exceptions that are faults of buildrunner to the operator, where the build can continue without what failed."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from buildrunner.errors import BuildEnded


class FaultReporter:
    """Shows faults of buildrunner on stderr, where the operator looks.

    Args:
        redact: replaces secrets in a text.

    """

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact

    def report(self, error: Exception) -> None:
        """Print the traceback of a fault."""
        print(self._redact("".join(traceback.format_exception(error))), file=sys.stderr, flush=True)

    @contextmanager
    def tolerate(self) -> Iterator[None]:
        """Do what a build can do without: a fault in it is reported, and the build continues."""
        try:
            yield
        except BuildEnded:
            raise
        except Exception as error:
            self.report(error)
