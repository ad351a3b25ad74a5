# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A load on published ports while something happens to the cluster: which requests were lost, and when."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import requests

#: a task on a tenth of an emulated CPU takes seconds for an answer when it is busy starting others
_TIMEOUT_SECONDS = 30.0


@dataclass
class Load:
    """Asks each URL in turn, every time over a new connection, from entering to leaving the context.

    A client with *failover* asks the next URL when one refuses its connection, as a browser does for a name with
    several addresses; a request is lost when none takes it. Without, each URL stands for itself. Docker's own forwarder
    of a loopback address accepts a connection, and resets it when nobody listens behind it. A reset that comes again at
    once is such a refusal, and so is one from a URL that refused the request before; any other is a lost request.
    """

    urls: Sequence[str]
    pause_seconds: float = 0.05
    failover: bool = False
    answers: int = 0
    #: what was said, by the JSON answer's container_id; answers without one count as ""
    heard: Counter[str] = field(default_factory=Counter)
    #: seconds since the beginning, URL and reason of each lost request
    lost: list[str] = field(default_factory=list)
    #: the URLs that refused when they were asked last
    _closed: set[str] = field(default_factory=set)

    def __enter__(self) -> Load:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="load", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join(timeout=2 * _TIMEOUT_SECONDS)

    def _ask(self) -> None:
        began = time.monotonic()
        number = 0
        while not self._end.is_set():
            started = time.monotonic() - began
            try:
                self._heard(self._answer(number))
            except requests.RequestException as error:
                self.lost.append(f"after {started:.1f} s: {error}")
            number += 1
            self._end.wait(self.pause_seconds)

    def _answer(self, number: int) -> requests.Response:
        attempts = len(self.urls) if self.failover else 1
        for attempt in range(attempts):
            url = self.urls[(number + attempt) % len(self.urls)]
            try:
                return self._get(url)
            except requests.ConnectionError as error:
                if attempt + 1 == attempts or not self._is_refusal(url, error):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _get(self, url: str) -> requests.Response:
        # no session: each request has a connection of its own
        response = requests.get(url, headers={"Accept": "application/json"}, timeout=_TIMEOUT_SECONDS)
        response.raise_for_status()
        self._closed.discard(url)
        return response

    def _is_refusal(self, url: str, error: requests.ConnectionError) -> bool:
        if "refused" in str(error) or url in self._closed:
            self._closed.add(url)
            return True
        try:
            self._get(url)
        except requests.ConnectionError:
            self._closed.add(url)
            return True
        return False

    def _heard(self, response: requests.Response) -> None:
        self.answers += 1
        answer: Any = response.json() if "json" in response.headers.get("Content-Type", "") else {}
        self.heard[str(answer.get("container_id", ""))] += 1


@contextmanager
def lossless(urls: Sequence[str], pause_seconds: float = Load.pause_seconds) -> Iterator[Load]:
    """A load from which nothing is lost."""
    with Load(urls, pause_seconds) as load:
        yield load
    assert load.answers > 20
    assert load.lost == []
