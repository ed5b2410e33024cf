"""Recognize errors of AWS that may pass: throttling in all its forms, and lack of capacity.

`deploy/run_task.py` and `deploy/run-task.mjs` are made to be copied and repeat these rules; a test compares them.
"""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["throttled", "capacity", "unavailable"]

# https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html lists the codes. ECS hides throttling by EC2 in
# an InvalidParameterException: "Error retrieving subnet information for […]: Rate exceeded (ErrorCode: Throttling)".
_THROTTLED_CODES = {"EC2ThrottledException", "PriorRequestNotComplete", "RequestLimitExceeded", "RequestThrottled"}
_THROTTLED_CODES |= {"RequestThrottledException", "SlowDown", "ThrottledException", "Throttling", "ThrottlingException"}
_THROTTLED_CODES |= {"TooManyRequestsException"}
_THROTTLED = re.compile(r"rate exceeded|request limit exceeded|too many requests|throttl", re.IGNORECASE)
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html; RESOURCE:… and AGENT are EC2's.
_CAPACITY = re.compile(
    r"capacity is unavailable|no capacity|insufficient capacity|limit on the number of (tasks|vcpus)"
    r"|unable to place a task|timeout waiting for .* provisioning|^RESOURCE:|^AGENT$",
    re.IGNORECASE,
)


def classify(code: str, message: str, status: int = 400) -> Kind | None:
    """Return why a request, or a task that was not started, may be tried again; None for what would fail again.

    Args:
        code: of the error; empty for a failure of RunTask and for the reason of a task.
        message: of the error, or that reason.
        status: of HTTP.

    """
    if code in _THROTTLED_CODES or status == 429 or _THROTTLED.search(message):
        return "throttled"
    if _CAPACITY.search(message):
        return "capacity"
    return "unavailable" if status >= 500 else None
