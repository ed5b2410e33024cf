"""The status of the commit on GitHub, GitLab or Gitea: pending while the build runs, then how it ended."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from buildrunner.errors import EXIT_OF_STAGE, EXIT_PUBLISHED, BuildTimedOut
from buildrunner.events.journal import Journal
from buildrunner.notify.hosts import State, Target
from buildrunner.notify.http import NotDelivered, post
from buildrunner.notify.notifier import Message, Notifier

_MOST_CHARACTERS = 140  # of a description: GitHub's limit
# What the author of the commit can fix. Everything else is an error of the machinery, or somebody's wish.
_FAILURES = {EXIT_OF_STAGE["clone"], EXIT_OF_STAGE["install"], EXIT_OF_STAGE["build"], BuildTimedOut("").exit_code}
_BUSY = {408, 409, 425, 429}  # of the statuses below 500, those that another attempt may not meet


class CommitStatus(Notifier):
    """Sends the statuses of one build.

    Args:
        journal: of the build.
        target: where they go.
        token: that may write them.
        slug: of the site.
        ref: that is built: if it is the id of a commit, a clone that fails has a status too.
        link: of the status; None for none.
        is_superseded: whether a later build took over, whose statuses these would replace.

    """

    name = "the commit status"
    is_about_commit = True

    def __init__(
        self,
        journal: Journal,
        *,
        target: Target,
        token: str,
        slug: str,
        ref: str | None,
        link: str | None,
        is_superseded: Callable[[], bool],
    ) -> None:
        super().__init__(journal, receiver=target.host.title)
        self._target = target
        self._headers = {name: value.format(token=token) for name, value in target.host.headers.items()}
        self._context = f"buildrunner/{slug}"
        self._named_commit = ref if ref and re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", ref) else None
        self._link = link
        self._is_superseded = is_superseded

    def first_message(self) -> Message | None:
        return self._message("pending", "The build is running.")

    def last_message(self, result: Mapping[str, Any]) -> Message | None:
        if self._first and not self._first.is_delivered:
            self._first = None  # this one replaces it
        self.commit = self.commit or self._named_commit
        if not self.commit or self._is_superseded():
            return None
        return self._message(*describe_result(result))

    def _message(self, state: State, description: str) -> Message:
        host, url = self._target.host, self._target.url(self.commit or "")
        fields = {
            host.state: host.states[state],
            **dict.fromkeys(host.names, self._context),
            "description": shorten(description),
            "target_url": self._link,
        }
        body = json.dumps({name: value for name, value in fields.items() if value}, ensure_ascii=False).encode()

        async def send() -> None:
            if self._is_superseded():
                return
            answer = await post(url, self._headers, body, allow_private=True)
            if 200 <= answer.status < 300 or (host.repeated and host.repeated in answer.text):
                return
            limited = answer.status == 403 and ("rate limit" in answer.text or answer.retry_after is not None)
            final = 300 <= answer.status < 500 and answer.status not in _BUSY and not limited
            meaning = {401: "; COMMIT_STATUS_TOKEN is not valid", 404: "; the token may not see the repository"}
            meaning |= {403: "; the token may not write statuses"} if not limited else {}
            raise NotDelivered(
                f"it answered with status {answer.status}{meaning.get(answer.status, '')}",
                final=final,
                retry_after=answer.retry_after,
            )

        return Message(f'"{state}"', send)


def describe_result(result: Mapping[str, Any]) -> tuple[State, str]:
    """Return the state and the description that a result event stands for."""
    code = result["exit_code"]
    if code == EXIT_PUBLISHED:
        files = f"{result['files']:,} files" if "files" in result else "the site"
        return "success", f"Published {files} in {result['seconds']:.0f} s."
    return "failure" if code in _FAILURES else "error", result.get("reason") or result["log"]


def shorten(text: str) -> str:
    """Return the beginning of a text that has room in a description."""
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1].rstrip()}…"
