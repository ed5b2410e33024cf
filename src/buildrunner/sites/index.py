"""What one deployment of a site consists of: its objects and rules. Answers for requests are decided here, without S3."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from buildrunner.project.output.pages import is_page
from buildrunner.routing.document import Document
from buildrunner.routing.route import Answer, Request, route

_MAX_ANSWERS = 128  # that are remembered for a site; each takes half a kilobyte
_MAX_PATH_CHARACTERS = 512  # of a path whose answer is remembered
_SHARE = 0.25  # of the time of the process that one site's rules may take
_BURST_SECONDS = 0.5  # that they may take at once


class Indexed(NamedTuple):
    """An object, as the listing shows it."""

    etag: str  # of `plain_etag`
    size: int  # bytes


class RulesTooSlow(Exception):
    """The rules of a site take more than their share of the time."""


@dataclass(slots=True)
class RuleBudget:
    """The time that the rules of one site may take: authors are strangers, and a thousand expressions take 20 ms."""

    _spent: float = 0.0  # seconds, less what was given back since
    _at: float = 0.0  # monotonic clock

    def check(self, now: float) -> None:
        """Raise RulesTooSlow if the site has used up its time."""
        self._spent = max(0.0, self._spent - (now - self._at) * _SHARE)
        self._at = now
        if self._spent > _BURST_SECONDS:
            raise RulesTooSlow

    def spend(self, seconds: float) -> None:
        """Count time that rules have taken."""
        self._spent += seconds


class SiteIndex:
    """One deployment. `retired` are objects of the one before, for visitors that have its pages."""

    def __init__(
        self,
        objects: Mapping[str, Indexed],
        document: Document,
        budget: RuleBudget,
        retired: Mapping[str, Indexed] | None = None,
    ) -> None:
        self.objects = objects
        self.document = document
        self.retired = retired or {}
        self._budget = budget
        self._answers: dict[str, Answer] = {}
        self._same: dict[Answer, Answer] = {}
        rules = (*document.redirects, *document.rules, *document.rewrites)
        conditions = [rule.conditions for rule in rules] + [rule.conditions for rule in document.headers]
        self._by_path_alone = not any(conditions)

    def find(self, key: str) -> Indexed | None:
        """Return the object of a key, relative to the site."""
        return self.objects.get(key) or self.retired.get(key)

    def known_answer(self, path: str, query: str) -> Answer | None:
        """Return the answer to an earlier request that decides this one, too."""
        answer = self._answers.get(path)
        return answer if answer is None or answer.location is None or not query else None

    def answer(self, request: Request) -> Answer:
        """Decide how a request is answered; equal answers are the same object.

        Raises:
            RulesTooSlow: the rules of the site take more than their share of the time.

        """
        if not self._by_path_alone or len(request.path) > _MAX_PATH_CHARACTERS:
            return self._decide(request)
        answer = self._answers.get(request.path)
        if answer is None:
            answer = self._decide(replace(request, query="") if request.query else request)
            if len(self._answers) >= _MAX_ANSWERS:
                self._answers.clear()
            self._answers[request.path] = answer
        # The query matters to redirects alone, which pass it on.
        return answer if answer.location is None or not request.query else self._decide(request)

    def _decide(self, request: Request) -> Answer:
        now = time.monotonic()
        self._budget.check(now)
        answer = route(request, self.document, self._exists)
        self._budget.spend(time.monotonic() - now)
        if len(self._same) >= _MAX_ANSWERS:
            self._same.clear()
        return self._same.setdefault(answer, answer)

    def _exists(self, key: str) -> bool:
        return key in self.objects or key in self.retired


def pages_of(objects: Mapping[str, Indexed]) -> dict[str, Indexed]:
    """Return the objects that are pages: they go live when all that they need is there."""
    return {key: found for key, found in objects.items() if is_page(key)}


def merge_listings(first: Mapping[str, Indexed], second: Mapping[str, Indexed]) -> dict[str, Indexed]:
    """Return pages as the first listing shows them, and everything else as the second one does.

    A listing is no snapshot: while a site is being published it can show a new page, and not yet an asset in a folder that was
    listed before it. Assets are sent before pages, so what is listed after a page was seen has all that this page needs.
    """
    return pages_of(first) | {key: found for key, found in second.items() if not is_page(key)}


def default_document(objects: Mapping[str, Indexed]) -> Document:
    """Return the rules of a site that was published without any, such as by another program."""
    return Document(single_page=set(pages_of(objects)) == {"index.html"})
