"""Test the detection of builds that need git history, by their log."""

from __future__ import annotations

import pytest

from buildrunner.checkout.history import _readable


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        ("'git',[\"show", "git show"),
        ("git log", "git log"),
        ("git', ['log", "git log"),
        ('"gatsby-transformer-gitinfo":', "gatsby-transformer-gitinfo"),
        ("showLastUpdateTime: true", "showLastUpdateTime: true"),
        ("git \x1b[31m describe", "git 31m describe"),
        ("", ""),
    ],
)
def test_a_sign_is_shown_as_a_person_would_write_it(found: str, shown: str) -> None:
    assert _readable(found) == shown
