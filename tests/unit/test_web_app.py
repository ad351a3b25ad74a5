# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The application web: what visitors get, with a Redis and without."""

from __future__ import annotations

import importlib
import json
import posix
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

WEB = Path(__file__).parents[2] / "images" / "web"
JSON = {"Accept": "application/json"}


class FakeRedis(threading.Thread):
    """A Redis that knows AUTH and INCR; it can be switched off, or be silent."""

    def __init__(self, password: str = "") -> None:
        super().__init__(daemon=True)
        self.password = password
        self.number = 0
        self.heard: list[list[str]] = []
        self.works = True
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self) -> None:
        while True:
            connection = self.listener.accept()[0]
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        may_count = not self.password
        with connection, connection.makefile("rwb") as file:
            while line := file.readline():
                words = []
                for _ in range(int(line[1:])):
                    words.append(file.read(int(file.readline()[1:]) + 2)[:-2].decode())
                self.heard.append(words)
                if not self.works:
                    return
                if words[0] == "AUTH":
                    may_count = words[1] == self.password
                    answer = "+OK" if may_count else "-WRONGPASS invalid password"
                elif may_count:
                    self.number += 1
                    answer = f":{self.number}"
                else:
                    answer = "-NOAUTH Authentication required."
                for byte in f"{answer}\r\n".encode():  # in pieces, as a network may bring it
                    file.write(bytes([byte]))
                    file.flush()


class Answer:
    """What the server sent."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = dict(line.split(": ", 1) for line in lines)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    port: int, path: str = "/", headers: dict[str, str] | None = None, method: str = "GET", body: str = ""
) -> Answer:
    fields = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return Answer(send(port, f"{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n{body}".encode()))


def send(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as connection, connection.makefile("rb") as file:
        connection.sendall(request)
        return file.read()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(WEB))
    monkeypatch.setitem(posix.environ, b"REDIS_HOST", b"no-such-name.invalid")
    monkeypatch.setitem(posix.environ, b"NAME", b"<b>Ann</b>")
    yield importlib.import_module("app")
    for name in ("app", "visits", "server"):
        sys.modules.pop(name, None)


@pytest.fixture
def port(web: ModuleType) -> int:
    """The port at which the application is served."""
    return int(sys.modules["server"].start(web.ROUTES, "127.0.0.1", 0).getsockname()[1])


@pytest.fixture
def redis(web: ModuleType, monkeypatch: pytest.MonkeyPatch) -> FakeRedis:
    """A Redis at the port where the counter looks for it."""
    redis = FakeRedis()
    monkeypatch.setattr(sys.modules["visits"], "PORT", redis.port)
    return redis


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
def test_json_is_for_those_who_ask_for_it(port: int, accept: str, mimetype: str) -> None:
    answer = ask(port, headers={"Accept": accept})
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, mimetype)
    assert answer.headers["Vary"] == "Accept"
    assert answer.headers["Cache-Control"] == "no-store"
    assert int(answer.headers["Content-Length"]) == len(answer.body)


def test_without_redis_the_page_says_so(port: int) -> None:
    page = ask(port).text
    assert "cannot connect to Redis, counter disabled" in page
    assert socket.gethostname() in page
    assert "{{" not in page


def test_without_redis_json_has_null_for_visits(port: int) -> None:
    assert ask(port, headers=JSON).json == {
        "greeting": "Hello <b>Ann</b>!",
        "container_id": socket.gethostname(),
        "visits": None,
        "visits_note": "cannot connect to Redis, counter disabled",
    }


def test_names_are_escaped_in_the_page(port: int) -> None:
    page = ask(port).text
    assert "Hello &lt;b&gt;Ann&lt;/b&gt;!" in page
    assert "<b>Ann" not in page


def test_a_name_is_not_taken_for_a_place_in_the_page(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(posix.environ, b"NAME", b"{{ visits }}")
    assert "Hello &#123;&#123; visits }}!" in ask(port).text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/?from=here", 200), ("HEAD", "/", 200), ("GET", "/no-such-page", 404), ("POST", "/", 405)],
)
def test_what_is_asked_for_otherwise(port: int, method: str, path: str, status: int) -> None:
    body = "a" * 200_000 if method == "POST" else ""  # nobody reads it, and the answer arrives all the same
    answer = ask(port, path, {"Content-Length": str(len(body))}, method, body)
    assert answer.status == status
    assert bool(answer.body) == (method != "HEAD")


def test_what_is_not_http_is_refused(port: int) -> None:
    assert Answer(send(port, b"nonsense\r\n\r\n")).status == 400


def test_a_request_may_come_in_pieces(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 5) as connection, connection.makefile("rb") as file:
        for piece in (b"GET /hea", b"lth HTTP/1.1\r\n", b"\r\n"):
            connection.sendall(piece)
            time.sleep(0.02)
        assert Answer(file.read()).text == "ok\n"


def test_a_mistake_in_the_application_is_logged_and_the_next_visitor_served(
    web: ModuleType, port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(web, "GREETING", "Hello {nobody}!")
        assert ask(port).status == 500
    assert "/: KeyError: 'nobody'" in capsys.readouterr().out
    assert ask(port).status == 200


def test_visitors_who_say_nothing_leave_room_for_others(port: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(sys.modules["server"].THREADS - 1)]
    assert ask(port, "/health").status == 200
    for connection in silent:
        connection.close()


def test_no_visitor_waits_for_redis_to_be_found(web: ModuleType, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    released, attempts = threading.Event(), []

    def hanging(host: str) -> None:
        attempts.append(host)
        released.wait(10)
        raise OSError("no such name")

    monkeypatch.setattr(sys.modules["visits"], "Redis", hanging)
    started = time.monotonic()
    assert [ask(port).status for _ in range(5)] == [200] * 5
    assert time.monotonic() - started < 2
    released.set()
    wait_until(lambda: not web.visits._connecting)
    ask(port)
    assert len(attempts) == 1, "it is looked for now and then"


def test_visits_are_counted_once_redis_answers(web: ModuleType, port: int, redis: FakeRedis) -> None:
    web.visits.host = "127.0.0.1"
    web.visits.start_connecting()
    wait_until(lambda: web.visits._redis)
    assert [ask(port, headers=JSON).json["visits"] for _ in range(3)] == [1, 2, 3]
    assert "<dd>4</dd>" in ask(port).text
    assert ask(port, headers=JSON).json["visits_note"] is None


@pytest.mark.parametrize(
    ("content", "password"), [("secret", "secret"), ("sec ret\n", "sec ret"), ("secret\r\n", "secret"), (None, "")]
)
def test_password_is_what_the_file_says(
    web: ModuleType, redis: FakeRedis, tmp_path: Path, content: str | None, password: str
) -> None:
    redis.password = password
    if content is not None:
        (tmp_path / "password").write_text(content, newline="")
    counter = sys.modules["visits"].Visits("127.0.0.1", str(tmp_path / "password"))
    counter.start_connecting()
    wait_until(lambda: counter._redis)
    assert counter.count() == 1
    assert redis.heard == [*([["AUTH", password]] if password else []), ["INCR", "visits"]]


def test_password_that_redis_refuses_is_said_and_not_shown(
    web: ModuleType, redis: FakeRedis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    redis.password = "right"  # noqa: S105 - no secret
    (tmp_path / "password").write_text("not-to-be-seen")
    counter = sys.modules["visits"].Visits("127.0.0.1", str(tmp_path / "password"))
    assert counter.count() is None
    wait_until(lambda: not counter._connecting)
    assert counter.count() is None
    said = capsys.readouterr().out
    assert "WRONGPASS" in said
    assert "not-to-be-seen" not in said


def test_password_file_that_cannot_be_read_leaves_the_page_as_it_is(
    web: ModuleType, redis: FakeRedis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = sys.modules["visits"].Visits("127.0.0.1", str(tmp_path))  # a directory
    assert counter.count() is None
    wait_until(lambda: not counter._connecting)
    assert counter.count() is None
    assert "cannot be read" in capsys.readouterr().out


def test_the_counter_goes_on_when_redis_comes_back(
    web: ModuleType, redis: FakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["visits"], "RETRY_SECONDS", 0)
    counter = sys.modules["visits"].Visits("127.0.0.1")
    wait_until(lambda: counter.count() == 1)
    redis.works = False
    assert counter.count() is None
    redis.works = True
    wait_until(lambda: counter.count() == 2)


def test_a_redis_that_stops_answering_delays_one_visitor_only(web: ModuleType, redis: FakeRedis) -> None:
    counter = sys.modules["visits"].Visits("127.0.0.1")
    counter.start_connecting()
    wait_until(lambda: counter.count() == 1)
    redis.works = False
    assert [counter.count() for _ in range(5)] == [None] * 5
    assert len(redis.heard) == 2


def test_health_does_not_depend_on_redis(port: int) -> None:
    answer = ask(port, "/health")
    assert (answer.status, answer.text) == (200, "ok\n")


def test_the_start_imports_nothing_that_takes_long() -> None:
    """With a tenth of an emulated CPU each of these is seconds: it is imported where it is used, or not at all."""
    heavy = {"os", "enum", "re", "json", "socket", "signal", "threading", "typing", "collections", "pathlib"}
    script = "import sys, server, app; print(*sys.modules)"
    python = [sys.executable, "-S", "-c", script]
    loaded = subprocess.run(python, cwd=WEB, capture_output=True, text=True, check=True, env={}).stdout.split()
    assert "server" in loaded
    assert not heavy & set(loaded)


@pytest.mark.parametrize("is_busy", [False, True])
def test_what_is_in_progress_ends_before_the_server_does(
    web: ModuleType, port: int, monkeypatch: pytest.MonkeyPatch, is_busy: bool
) -> None:
    server = sys.modules["server"]
    monkeypatch.setattr(server, "LAME_DUCK_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", port), 5) as kept, kept.makefile("rb") as file:
        if is_busy:
            kept.sendall(b"GET /health HTTP/1.1\r\n")
            wait_until(lambda: server.busy)
        ending = threading.Thread(target=server.finish)
        ending.start()
        assert ask(port, "/health").status == 200, "new requests are served for a while"
        ending.join(1)
        assert ending.is_alive() == is_busy, "a connection without a request is not waited for"
        if is_busy:
            kept.sendall(b"\r\n")
            assert Answer(file.read()).status == 200
        ending.join(5)
        assert not ending.is_alive()
