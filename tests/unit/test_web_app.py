# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The application web: what visitors get, with a Redis and without."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

WEB = Path(__file__).parents[2] / "images" / "web"
JSON = {"Accept": "application/json"}


class FakeRedis:
    """What the counter uses of redis.Redis; it can be switched off."""

    def __init__(self) -> None:
        self.number = 0
        self.asked = 0
        self.works = True

    def incr(self, _key: str) -> int:
        self.asked += 1
        if not self.works:
            raise ConnectionError("switched off")
        self.number += 1
        return self.number


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(WEB))
    monkeypatch.setenv("REDIS_HOST", "no-such-name.invalid")
    monkeypatch.setenv("NAME", "<b>Ann</b>")
    yield importlib.import_module("app")
    for name in ("app", "visits"):
        sys.modules.pop(name, None)


@pytest.fixture
def listener() -> Iterator[int]:
    """A port at which somebody answers, as a Redis would."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "waited for 5 s"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("accept", "mimetype"),
    [
        ("application/json", "application/json"),
        ("application/json, text/plain;q=0.5", "application/json"),
        ("*/*", "text/html"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("text/html;q=0.4, application/json", "application/json"),
        ("", "text/html"),
    ],
)
def test_json_is_for_those_who_ask_for_it(web: ModuleType, accept: str, mimetype: str) -> None:
    response = web.app.test_client().get("/", headers={"Accept": accept})
    assert (response.status_code, response.mimetype) == (200, mimetype)
    assert "Accept" in response.headers["Vary"]
    assert response.headers["Cache-Control"] == "no-store"


def test_without_redis_the_page_says_so(web: ModuleType) -> None:
    page = web.app.test_client().get("/").text
    assert "cannot connect to Redis, counter disabled" in page
    assert socket.gethostname() in page


def test_without_redis_json_has_null_for_visits(web: ModuleType) -> None:
    answer = web.app.test_client().get("/", headers=JSON).json
    assert answer == {
        "greeting": "Hello <b>Ann</b>!",
        "container_id": socket.gethostname(),
        "visits": None,
        "visits_note": "cannot connect to Redis, counter disabled",
    }


def test_names_are_escaped_in_the_page(web: ModuleType) -> None:
    page = web.app.test_client().get("/").text
    assert "Hello &lt;b&gt;Ann&lt;/b&gt;!" in page
    assert "<b>Ann" not in page


def test_a_name_server_that_hangs_delays_nobody(web: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hanging(*_arguments: Any) -> None:
        released.wait(10)
        raise OSError("no such name")

    monkeypatch.setattr(socket, "create_connection", hanging)
    client = web.app.test_client()
    started = time.monotonic()
    assert [client.get("/").status_code for _ in range(5)] == [200] * 5
    assert time.monotonic() - started < 1
    released.set()


def test_a_missing_redis_is_looked_for_now_and_then(web: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []

    def refused(*_arguments: Any) -> None:
        attempts.append(time.monotonic())
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refused)
    client = web.app.test_client()
    for _ in range(20):
        client.get("/")
        time.sleep(0.005)
    assert len(attempts) == 1


def test_visits_are_counted_once_redis_answers(web: ModuleType, monkeypatch: pytest.MonkeyPatch, listener: int) -> None:
    visits, redis = sys.modules["visits"], FakeRedis()
    monkeypatch.setattr(visits, "PORT", listener)
    monkeypatch.setattr(visits, "new_client", lambda address, _password: redis if address == "127.0.0.1" else None)
    web.visits.host = "127.0.0.1"
    web.visits.start_connecting()
    client = web.app.test_client()
    wait_until(lambda: web.visits._client)
    assert [client.get("/", headers=JSON).json["visits"] for _ in range(3)] == [1, 2, 3]
    assert "<dd>4</dd>" in client.get("/").text
    assert client.get("/", headers=JSON).json["visits_note"] is None


@pytest.mark.parametrize(
    ("content", "password"), [("secret", "secret"), ("sec ret\n", "sec ret"), ("secret\r\n", "secret"), (None, None)]
)
def test_password_is_what_the_file_says_at_each_attempt(
    web: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    listener: int,
    tmp_path: Path,
    content: str | None,
    password: str | None,
) -> None:
    visits, given = sys.modules["visits"], []
    monkeypatch.setattr(visits, "PORT", listener)
    monkeypatch.setattr(visits, "new_client", lambda _address, password: given.append(password))
    if content is not None:
        (tmp_path / "password").write_text(content, newline="")
    visits.Visits("127.0.0.1", str(tmp_path / "password")).start_connecting()
    wait_until(lambda: given)
    assert given == [password]


def test_client_gives_the_password_and_gives_up_soon(web: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", SimpleNamespace(Redis=lambda **options: options))
    options = sys.modules["visits"].new_client("127.0.0.1", "secret")
    assert (options["host"], options["password"]) == ("127.0.0.1", "secret")
    assert max(options["socket_timeout"], options["socket_connect_timeout"]) < 1


def test_password_file_that_cannot_be_read_leaves_the_page_as_it_is(
    web: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    listener: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.modules["visits"], "PORT", listener)
    counter = sys.modules["visits"].Visits("127.0.0.1", str(tmp_path))  # a directory
    assert counter.count() is None
    wait_until(lambda: counter._connecting is None)
    assert counter.count() is None
    assert "cannot be read" in capsys.readouterr().out


def test_the_counter_goes_on_when_redis_comes_back_elsewhere(
    web: ModuleType, monkeypatch: pytest.MonkeyPatch, listener: int
) -> None:
    visits, made = sys.modules["visits"], [FakeRedis(), FakeRedis()]
    first, clients = made[0], iter(made)
    monkeypatch.setattr(visits, "PORT", listener)
    monkeypatch.setattr(visits, "RETRY_SECONDS", 0)
    monkeypatch.setattr(visits, "new_client", lambda *_arguments: next(clients))
    counter = visits.Visits("127.0.0.1")
    counter.start_connecting()
    wait_until(lambda: counter.count() == 1)
    first.works = False
    assert counter.count() is None
    wait_until(lambda: counter.count() == 1)


def test_a_redis_that_stops_answering_delays_one_visitor_only(
    web: ModuleType, monkeypatch: pytest.MonkeyPatch, listener: int
) -> None:
    visits, redis = sys.modules["visits"], FakeRedis()
    monkeypatch.setattr(visits, "PORT", listener)
    monkeypatch.setattr(visits, "new_client", lambda *_arguments: redis)
    counter = visits.Visits("127.0.0.1")
    counter.start_connecting()
    wait_until(lambda: counter.count() == 1)
    redis.works = False
    assert [counter.count() for _ in range(5)] == [None] * 5
    assert redis.asked == 2


def test_health_does_not_depend_on_redis(web: ModuleType) -> None:
    response = web.app.test_client().get("/health")
    assert (response.status_code, response.text) == (200, "ok\n")


def test_redis_is_not_imported_before_there_is_one(web: ModuleType) -> None:
    web.app.test_client().get("/")
    assert "redis" not in sys.modules


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module that serves, in a hurry; the test's own signal handlers are put back."""
    monkeypatch.syspath_prepend(str(WEB))
    module = importlib.import_module("server")
    monkeypatch.setattr(module, "LAME_DUCK_SECONDS", 0.2)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.02)
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    yield module
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in kept.items():
        signal.signal(number, handler)
    sys.modules.pop("server", None)


def channel(**changes: Any) -> SimpleNamespace:
    """A connection of waitress on which nothing happens."""
    return SimpleNamespace(**{"request": None, "requests": [], "total_outbufs_len": 0} | changes)


def seconds_to_end(module: ModuleType, channels: dict[int, SimpleNamespace], free_after: float) -> float:
    """Return how long after SIGTERM the server ends, whose connections are at rest after *free_after* seconds."""
    module.stop_gracefully(SimpleNamespace(active_channels=channels))
    started = time.monotonic()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit):
        while time.monotonic() < started + 5:
            time.sleep(0.01)
            if time.monotonic() > started + free_after:
                channels.clear()
    return time.monotonic() - started


@pytest.mark.parametrize(
    ("channels", "free_after", "least"),
    [
        pytest.param({}, 0, 0.2, id="new requests are served for a while"),
        pytest.param({1: channel()}, 5, 0.2, id="a connection kept open is not waited for"),
        pytest.param({1: channel(request="GET")}, 0.5, 0.5, id="a request that is being read"),
        pytest.param({1: channel(requests=["GET"])}, 0.5, 0.5, id="a request that is being worked on"),
        pytest.param({1: channel(total_outbufs_len=9)}, 0.5, 0.5, id="an answer that is being sent"),
    ],
)
def test_what_is_in_progress_ends_before_the_server_does(
    server: ModuleType, channels: dict[int, SimpleNamespace], free_after: float, least: float
) -> None:
    assert least <= seconds_to_end(server, channels, free_after) < least + 1.5
