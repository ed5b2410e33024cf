"""Explain why a command failed and what to do, by known causes or a quote of its output."""

from typing import TYPE_CHECKING

from buildrunner.lazy import export_lazily

if TYPE_CHECKING:
    from buildrunner.diagnose.explain import (
        explain_failure as explain_failure,
        known_cause as known_cause,
        with_failure_hint as with_failure_hint,
    )
    from buildrunner.diagnose.fallbacks import (
        LEGACY_OPENSSL as LEGACY_OPENSSL,
        OPTIONS_OF_LATER_NODES as OPTIONS_OF_LATER_NODES,
        find_fallbacks as find_fallbacks,
    )
    from buildrunner.diagnose.rule import BuildFallback as BuildFallback
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "explain": "explain_failure known_cause with_failure_hint",
            "fallbacks": "LEGACY_OPENSSL OPTIONS_OF_LATER_NODES find_fallbacks",
            "rule": "BuildFallback",
        },
    )
