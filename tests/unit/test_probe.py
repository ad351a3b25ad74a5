# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hearing every task: over real sockets on the loopback address."""

from __future__ import annotations

import itertools
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils.probe import (
    Answer,
    Entrypoint,
    Hearing,
    Target,
    ask,
    ask_until_heard,
    compare,
    targets_of,
)

IDS = ["0f01aa860247", "7fc2aa6579b9", "c0ffee000003"]
HERE = Entrypoint("node1", "127.0.0.1")
TARGET = Target("web", 4000, {IDS[0]: "web.1 on myvm1", IDS[1]: "web.2 on myvm2"})


@contextmanager
def server(answer: Callable[[], bytes | None]) -> Iterator[int]:
    """Serve each connection with the next *answer*; None keeps it open in silence, b"" closes it at once."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            text = answer()
            if text is None:
                time.sleep(1)
            elif text:
                self.request.recv(4096)
                self.request.sendall(text)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield running.server_address[1]
        running.shutdown()


def http(body: str, status: str = "200 OK", header: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{header}Connection: close\r\n\r\n{body}".encode()


def hear(answer: Callable[[], bytes | None], tasks: list[str], seconds: float = 2.0) -> Hearing:
    with server(answer) as port:
        hearing = Hearing(Target("web", port, dict.fromkeys(tasks, "web.1 on myvm1")), HERE)
        ask_until_heard(hearing, time.monotonic() + seconds, time.monotonic() + seconds)
    return hearing


def in_turn(*texts: bytes) -> Callable[[], bytes]:
    turn = itertools.cycle(texts)
    return lambda: next(turn)


def test_every_task_is_heard_in_as_few_requests() -> None:
    hearing = hear(in_turn(http(IDS[0]), http("{}", header=f"X-Served-By: {IDS[1]}\r\n")), IDS[:2])
    assert hearing.is_done
    assert hearing.requests == 2
    assert hearing.as_dict()["heard"] == {IDS[0]: 1, IDS[1]: 1}


def test_a_task_that_the_mesh_lost_is_named() -> None:
    hearing = hear(in_turn(http(IDS[0]), http(IDS[1])), IDS, seconds=0.3)
    assert not hearing.is_done
    assert hearing.missing == [IDS[2]]
    assert "heard 2 of 3 tasks" in hearing.complaint(1)
    assert IDS[2] in hearing.complaint(1)


def test_answers_without_a_name_prove_an_answer_only() -> None:
    hearing = hear(in_turn(http("hello")), IDS[:2])
    assert hearing.is_done
    assert hearing.is_anonymous
    assert hearing.requests == 5


def test_a_list_of_containers_says_nothing_of_who_gave_it() -> None:
    hearing = hear(in_turn(http(" ".join(IDS))), IDS)
    assert hearing.is_anonymous
    assert not hearing.heard


def test_a_server_error_is_no_answer() -> None:
    hearing = hear(in_turn(http(IDS[0], "502 Bad Gateway")), IDS[:1], seconds=0.4)
    assert not hearing.is_done
    assert "502" in hearing.complaint(1)


def test_after_refusals_it_is_asked_again() -> None:
    hearing = hear(in_turn(b"", b"", http(IDS[0])), IDS[:1])  # each request that is hung up on asks twice
    assert hearing.is_done
    assert hearing.requests == 2


def test_another_protocol_counts_as_an_answer() -> None:
    hearing = hear(in_turn(b"-ERR unknown command\r\n"), IDS[:2])
    assert hearing.is_done
    assert not hearing.is_http


def test_a_server_that_does_not_speak_http_is_asked_in_its_own_words() -> None:
    heard: list[bytes] = []

    class Redis(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            heard.append(self.rfile.readline())
            self.wfile.write(b"-NOAUTH Authentication required.\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Redis) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        target = Target("redis", running.server_address[1], {IDS[0]: "redis.1 on myvm1"}, greeting=b"PING\r\n")
        hearing = Hearing(target, HERE)
        ask_until_heard(hearing, time.monotonic() + 2, time.monotonic() + 2)
        running.shutdown()
    assert hearing.is_done
    assert not hearing.is_vague
    assert heard == [b"PING\r\n"]


@pytest.mark.parametrize("silence", [None, b""])
def test_a_server_that_says_nothing_to_its_own_words_has_not_answered(silence: bytes | None) -> None:
    with server(lambda: silence) as port:
        assert ask("127.0.0.1", port, 0.2, b"PING\r\n").error


@pytest.mark.parametrize(("tasks", "vague"), [(1, False), (2, True)])
def test_whoever_answers_for_a_task_that_is_alone_is_that_task(tasks: int, vague: bool) -> None:
    hearing = hear(in_turn(http("hello")), IDS[:tasks])
    assert hearing.is_done
    assert hearing.is_vague == vague


def test_silence_counts_as_another_protocol_only_when_it_lasts() -> None:
    with server(lambda: None) as port:
        silence = ask("127.0.0.1", port, 0.2)
    assert silence == Answer(is_silent=True)
    hearing = Hearing(TARGET, HERE)
    hearing.note(silence)
    assert not hearing.is_done
    hearing.note(silence)
    assert hearing.is_done
    assert not hearing.is_http


def test_a_silent_task_of_a_service_that_speaks_http_is_not_heard() -> None:
    hearing = Hearing(TARGET, HERE)
    hearing.note(Answer(text=IDS[0], is_http=True))
    for _ in range(5):
        hearing.note(Answer(is_silent=True))
    assert not hearing.is_done
    assert "no answer came" in hearing.complaint(60)


@pytest.mark.parametrize(
    ("answer", "last"),
    [
        (Answer(is_silent=True), "a connection was accepted, and no answer came"),
        (Answer(is_http=False), "what came was not HTTP"),
    ],
)
def test_what_speaks_http_through_one_entrypoint_does_through_all(answer: Answer, last: str) -> None:
    speaking, other = Hearing(TARGET, HERE), Hearing(TARGET, Entrypoint("node2", "127.0.0.2"))
    other_port = Hearing(Target("redis", 6379, TARGET.tasks), HERE)
    speaking.note(Answer(text=IDS[0], is_http=True))
    for hearing in (other, other_port):
        hearing.note(answer)
        hearing.note(answer)
        assert hearing.is_done
    compare([speaking, other, other_port])
    assert other_port.is_done
    assert not other.is_done
    assert f"no answer in 60 seconds and 2 tries; the last: {last}" in other.complaint(60)
    for container in IDS[:2]:
        other.note(Answer(text=container, is_http=True))
    assert other.is_done


def test_a_connection_that_does_not_come_about_is_not_silence() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        assert "timed out" in ask("127.0.0.1", full.getsockname()[1], 0.1).error


def test_a_connection_that_is_closed_at_once_does_not_count() -> None:
    with server(lambda: b"") as port:
        assert ask("127.0.0.1", port, 2).error


def test_a_refused_connection_says_so() -> None:
    with server(lambda: b"") as port:
        pass
    answer = ask("127.0.0.1", port, 1)
    assert "refused" in answer.error
    hearing = Hearing(TARGET, HERE)
    hearing.note(answer)
    assert "refused" in hearing.complaint(60)
    assert "node1 (127.0.0.1)" in hearing.complaint(60)


def service(**port: Any) -> dict[str, Any]:
    return {
        "ID": "s",
        "Endpoint": {"Ports": [{"Protocol": "tcp", "PublishedPort": 4000, "PublishMode": "ingress", **port}]},
    }


def task(state: str = "running", desired: str = "running", container: str = IDS[0]) -> dict[str, Any]:
    status = {"State": state, "ContainerStatus": {"ContainerID": container + "f" * 52}}
    return {"ServiceID": "s", "Slot": 1, "NodeID": "n", "DesiredState": desired, "Status": status}


NODES = [{"ID": "n", "Description": {"Hostname": "myvm1"}}]


def test_targets_are_the_mesh_s_tcp_ports_and_their_running_tasks() -> None:
    others = [task("running", "shutdown", IDS[1]), task("failed", "running", IDS[2])]
    tasks = [task(), *others, {**task(container=IDS[1]), "ServiceID": "other"}]
    assert targets_of({"web": service()}, tasks, NODES) == [Target("web", 4000, {IDS[0]: "web.1 on myvm1"})]


@pytest.mark.parametrize(("port", "greeting"), [(80, b""), (6379, b"PING\r\n")])
def test_what_is_said_goes_by_the_port_in_the_container(port: int, greeting: bytes) -> None:
    (target,) = targets_of({"x": service(TargetPort=port)}, [task()], NODES)
    assert target.greeting == greeting


def test_a_port_behind_the_proxy_is_asked_wherever_a_proxy_is() -> None:
    proxied = {"ID": "s", "Spec": {"Labels": {"apiary.ingress.ports": "4000:80"}}, "Endpoint": {}}
    nodes = [*NODES, {"ID": "m", "Description": {"Hostname": "myvm2"}, "Spec": {"Availability": "drain"}}]
    expected = Target("web", 4000, {IDS[0]: "web.1 on myvm1"}, is_proxied=True, unserved=frozenset({"myvm2"}))
    assert targets_of({"web": proxied}, [task()], nodes) == [expected]
    assert targets_of({"web": service()}, [task()], nodes)[0].unserved == frozenset()


def test_the_proxy_itself_is_not_asked() -> None:
    proxy = {**service(PublishMode="host"), "Spec": {"Labels": {"apiary.ingress.proxy": "true"}}}
    assert targets_of({"ingress": proxy}, [task()], NODES) == []


@pytest.mark.parametrize("port", [{"Protocol": "udp"}, {"PublishMode": "host"}, {"PublishedPort": 0}])
def test_other_ports_are_not_asked(port: dict[str, Any]) -> None:
    assert targets_of({"web": service(**port)}, [task()], NODES) == []


def test_a_service_without_running_tasks_is_not_asked() -> None:
    assert targets_of({"web": service()}, [], NODES) == []
