# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The load that tests put on a cluster: it must see a request that is lost, or its promise is worth nothing."""

from __future__ import annotations

import http.server
import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from tests.load import Load, lossless


class Handler(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"container_id": "one"}')

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


class Failing(Handler):
    status = 503


def serving(handler: type[Handler]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def good() -> Iterator[str]:
    yield from serving(Handler)


@pytest.fixture
def failing() -> Iterator[str]:
    yield from serving(Failing)


@pytest.fixture
def refusing() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


def under(load: Load, requests: int = 4) -> Load:
    with load:
        deadline = time.monotonic() + 10
        while load.answers + len(load.lost) < requests and time.monotonic() < deadline:
            time.sleep(0.01)
    return load


def test_answers_are_counted_by_who_gave_them(good: str) -> None:
    load = under(Load([good], pause_seconds=0))
    assert not load.lost
    assert load.heard == {"one": load.answers}


def test_refused_connection_is_a_lost_request(good: str, refusing: str) -> None:
    load = under(Load([good, refusing], pause_seconds=0))
    assert load.answers >= 2
    assert len(load.lost) >= 2
    assert "refused" in load.lost[0]


def test_error_of_the_server_is_a_lost_request_even_with_failover(failing: str, good: str) -> None:
    assert "503" in under(Load([failing, good], pause_seconds=0, failover=True)).lost[0]


def test_with_failover_a_refused_connection_is_tried_elsewhere(good: str, refusing: str) -> None:
    load = under(Load([refusing, good], pause_seconds=0, failover=True))
    assert not load.lost
    assert load.answers >= 4


@pytest.mark.parametrize(("resets", "is_lost"), [(1, True), (1000, False)])
def test_with_failover_only_a_reset_that_comes_again_is_a_refusal(good: str, resets: int, is_lost: bool) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for number in itertools.count():
            connection, _address = listener.accept()
            if number < resets:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    load = under(Load([url, good], pause_seconds=0, failover=True), requests=4)
    assert len(load.lost) == (1 if is_lost else 0)
    assert load.answers >= 3


def test_with_failover_an_entrypoint_that_opens_again_has_lost_nothing(good: str, refusing: str) -> None:
    load = Load([refusing, good], failover=True)
    assert load._is_refusal(refusing, requests.ConnectionError("Connection refused"))
    reset = requests.ConnectionError("Connection reset by peer")
    assert load._is_refusal(refusing, reset)  # as it did before
    assert not load._is_refusal(good, reset)


def test_with_failover_a_request_that_nobody_takes_is_lost(refusing: str) -> None:
    assert under(Load([refusing, refusing], pause_seconds=0, failover=True)).lost


def test_load_that_may_lose_nothing_fails_for_a_lost_request(good: str, failing: str) -> None:
    def answered(load: Load) -> None:
        while load.answers <= 20:
            time.sleep(0.01)

    with lossless([good], 0.001) as load:
        answered(load)
    with pytest.raises(AssertionError), lossless([good, failing], 0.001) as load:
        answered(load)
