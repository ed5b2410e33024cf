"""Convert events to messages for the channel, so that no line of a build looks like its end word."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Literal

from buildrunner.events.journal import lines_of_output
from buildrunner.events.lines import without_color

_END_WORDS = ("Failed:", "Cancelled", "Timed out:", "Superseded", "Skipped:")
# Matches at least the lines that `_message` escapes, in a third of the time. Each line follows a line break.
_LIKE_END_WORD = re.compile(rf"\n(?:[^\S\n]*Done|{'|'.join(_END_WORDS)})")


def make_messages(
    first: int, events: Sequence[bytes], log_format: Literal["text", "json"]
) -> list[tuple[int, str | bytes]]:
    """Return the messages for a batch, each with the number of its event.

    Args:
        first: number of the first event.
        events: encoded; those without a line have no message.
        log_format: `text` for the line, `json` for the event.

    """
    lines = lines_of_output(events)
    output = [line for line in lines if line is not None]
    if len(output) == len(events):
        plain = without_color("\n".join(output))
        if not _LIKE_END_WORD.search(f"\n{plain}"):
            return list(enumerate(events if log_format == "json" else plain.split("\n"), first))
    each = enumerate(zip(events, lines, strict=True), first)
    return [(seq, message) for seq, (event, line) in each if (message := _message(event, line, log_format)) is not None]


def _message(event: bytes, line: str | None, log_format: Literal["text", "json"]) -> str | bytes | None:
    """Return the message for an event whose output is `line`; None for an event without a line."""
    own = line is None  # a line of buildrunner itself, or a heartbeat
    if line is None:
        fields = json.loads(event)
        line = fields.get("log")
        if line is None:
            return None
        own = fields["type"] != "log"
    plain = without_color(line)
    # A line of the build must not stop a viewer early, even one that trims its messages.
    forged = not own and (plain.strip() == "Done" or plain.startswith(_END_WORDS))
    if log_format == "text":
        return f" {plain}" if forged else plain
    if forged:
        return json.dumps({**json.loads(event), "log": f" {line}"}, ensure_ascii=False, separators=(",", ":"))
    return event
