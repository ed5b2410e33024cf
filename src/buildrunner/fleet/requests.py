"""Open clients of Amazon ECS and AWS Batch that make one attempt, and turn their errors into one exception."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from buildrunner.fleet.transient import Kind, classify

_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 30


class RequestFailed(Exception):
    """A request to AWS failed.

    `transient` is why the same request may succeed later; None if it would fail again.
    """

    def __init__(self, reason: str, transient: Kind | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.transient = transient


@asynccontextmanager
async def open_client(service: Literal["ecs", "batch"], region: str) -> AsyncIterator[Any]:
    """Open a client that makes one attempt for each request: callers retry, and report it."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    session: Any = get_session()
    config = AioConfig(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_ANSWER_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 1},
    )
    async with session.create_client(service, region_name=region, config=config) as client:
        yield client


@asynccontextmanager
async def errors_explained() -> AsyncIterator[None]:
    """Raise RequestFailed for every error of the AWS client in the block."""
    from aiohttp import ClientError as HttpError
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as BotoConnectionError

    try:
        yield
    except ClientError as error:
        answer: Any = error.response
        code, message = answer["Error"].get("Code", ""), answer["Error"].get("Message", "")
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        raise RequestFailed(f"{error.operation_name}: {message or code}", classify(code, message, status)) from error
    except (BotoConnectionError, HTTPClientError, HttpError, TimeoutError, OSError) as error:
        raise RequestFailed(f"AWS cannot be reached ({type(error).__name__})", "unavailable") from error
    except BotoCoreError as error:
        raise RequestFailed(str(error)) from error
