"""Decide by its name whether a variable holds a secret.

`deploy/run_task.py` and `deploy/run-task.mjs`, which users copy, repeat this rule; a test compares them.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from itertools import pairwise

# Whole words of a name, separated by `_`, a digit or a change of case.
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORDS = {"TOKEN", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "PASS", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS"}
_SECRET_WORDS |= {"JWT", "PAT"}
# KEY is too common a word alone; after one of these it is a secret.
_KEY_WORDS = {
    "API",
    "ACCESS",
    "PRIVATE",
    "SECRET",
    "SIGNING",
    "ENCRYPTION",
    "DEPLOY",
    "SERVICE",
    "ROLE",
    "MASTER",
    "SSH",
}
_KEY_WORDS |= {"HMAC"}


def is_secret_name(name: str) -> bool:
    """Return whether a name says that its value is a secret: `DB_PASS`, `apiKey` and `_auth` do, `AUTHOR` does not."""
    words = [word.upper() for word in _WORDS.findall(name)]
    return (
        not _SECRET_WORDS.isdisjoint(words)
        or words[-1:] == ["AUTH"]
        or any(word == "KEY" and before in _KEY_WORDS for before, word in pairwise(words))
    )


def is_public_value(value: str) -> bool:
    """Return whether a value is no address with a password or a token in it."""
    return re.match(r"[a-z][a-z0-9+.-]*://[^/?#]*@", value, re.IGNORECASE) is None


def matches_any(name: str, patterns: tuple[str, ...]) -> bool:
    """Return whether `name` matches one of the patterns of `REDACT_VARS`; case counts, `*` stands for any text."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
