# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The visualizer: what of the swarm may be seen, what is told of changes, and that it only ever reads."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from aiohttp import web as aiohttp_web
from visualizer import timeline, view, watch
from visualizer.config import ConfigError, from_environment
from visualizer.engine import Engine, EngineError, ForbiddenRequest
from visualizer.redact import HIDDEN, redacted, redacted_labels
from visualizer.watch import Feed, Watcher
from visualizer.web import application

from tests.fake_engine import NOT_A_MANAGER, SECRETS, FakeEngine, large, timestamp, tutorial
from tests.visualizer_server import IMAGE, Server

T = TypeVar("T")

NOW = int(time.time() * 1000)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    # not pytest's own directory: its path may be too long for a socket
    with tempfile.TemporaryDirectory(prefix="apiary-") as directory:
        engine = FakeEngine(Path(directory) / "docker.sock")
        engine.start()
        yield engine
        engine.stop()


@asynccontextmanager
async def reader(fake: FakeEngine) -> AsyncIterator[Engine]:
    engine = Engine(str(fake.socket))
    try:
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def watching(fake: FakeEngine) -> AsyncIterator[Feed]:
    """A feed that is kept up to date."""
    async with reader(fake) as engine:
        feed = Feed()
        watcher = asyncio.create_task(Watcher(engine, feed, say=lambda _text: None).run())
        try:
            yield feed
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)


async def until(condition: Callable[[], T], seconds: float = 5) -> T:
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, f"waited for {seconds} s"
        await asyncio.sleep(0.01)
    return answer


def is_live(feed: Feed) -> bool:
    return bool(feed.snapshot["status"]["engine"]["ok"])


def happened(feed: Feed, kind: str) -> list[str]:
    return [item["text"] for item in feed.snapshot["timeline"].values() if item["kind"] == kind]


# What may be seen


def test_nothing_secret_is_in_what_is_read(engine: FakeEngine) -> None:
    ids = tutorial(engine)
    seen = [view.node(node) for node in engine.nodes.values()]
    seen += [view.service(service) for service in engine.services.values()]
    seen += [view.task(task) for task in engine.tasks.values()]
    text = json.dumps(seen)
    assert [name for name, secret in SECRETS.items() if secret in text] == []
    # ... and it was all there to be seen
    given = json.dumps([engine.nodes, engine.services, engine.tasks])
    assert {name for name, secret in SECRETS.items() if secret not in given} == {"image login"}
    assert ids


#: what the page may know: a field that is added is decided on here too
FIELDS = {
    "node": ("id name role leader reachability state message availability address engine platform cpus memory labels"),
    "service": "id name stack image spec mode replicas ports update message created updated",
    "task": ("id service node slot state desired since created image forced container exit failed error cpus memory"),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_only_fields_that_are_named_here_are_kept(engine: FakeEngine, kind: str) -> None:
    tutorial(engine)
    raw = next(iter(getattr(engine, f"{kind}s").values()))
    assert sorted(getattr(view, kind)({**raw, "Surprise": "x"})) == sorted(FIELDS[kind].split())


def test_the_fingerprint_of_a_service_stays_on_the_server(engine: FakeEngine) -> None:
    tutorial(engine)
    services = {key: view.service(raw) for key, raw in engine.services.items()}
    composed = view.compose({}, services, {}, NOW)
    assert all("spec" in item for item in services.values())
    assert not any("spec" in item for item in composed["services"].values())


@pytest.mark.parametrize("kind", ["node", "service", "task"])
def test_an_engine_that_says_little_is_no_reason_to_fail(kind: str) -> None:
    assert getattr(view, kind)({"ID": "x" * 25})["id"] == "x" * 25


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("task: non-zero exit (1)", "task: non-zero exit (1)"),
        ("No such image: apiary/web:1d0f032e7f7c", "No such image: apiary/web:1d0f032e7f7c"),
        ("no suitable node (scheduling constraints not satisfied on 2 nodes)", None),
        ("unauthorized: authentication required", None),
        ("secret not found: web_v1", None),
        ("starting container failed: mkdir /var/lib/docker/volumes/data: read-only file system", None),
        ('exec: "/serve --password=hunter2 --port=80"', f'exec: "/serve --password={HIDDEN} --port=80"'),
        ("REDIS_PASSWORD: hunter2 is wrong", f"REDIS_PASSWORD: {HIDDEN} is wrong"),
        ('{"api_key": "hunter2", "a": 1}', f'{{"api_key": {HIDDEN}, "a": 1}}'),
        ("Authorization-Token=Bearer abcdef", f"Authorization-Token={HIDDEN}"),
        ("get https://ann:hunter2@registry.example/v2/", f"get https://{HIDDEN}@registry.example/v2/"),
        ("SWMTKN-1-0abc-0def expired", f"{HIDDEN} expired"),
        ("bad key -----BEGIN RSA PRIVATE KEY-----\nMIIx", f"bad key {HIDDEN}"),
        ("got AKIa9ZbQ7xLm2PqRs8TuVw", f"got {HIDDEN}"),
        ("digest sha256:9f86d081884c7d659a2feaa0c55ad015", None),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_nothing_else(text: str, shown: str | None) -> None:
    assert redacted(text) == (text if shown is None else shown)


def test_labels_are_hidden_by_their_names_too() -> None:
    labels = {"disk": "ssd", "db.password": "x", "auth": "y", "note": "token=abc", "zone": "eu-1"}
    assert redacted_labels(labels) == {
        "disk": "ssd",
        "db.password": HIDDEN,
        "auth": HIDDEN,
        "note": f"token={HIDDEN}",
        "zone": "eu-1",
    }


def test_an_error_does_not_repeat_the_environment(engine: FakeEngine) -> None:
    ids = tutorial(engine)
    error = f'exec: "{SECRETS["environment"]}": executable file not found in $PATH'
    key = engine.add_task(ids["web"], ids["node1"], 1, "failed", error=error)
    assert view.task(engine.tasks[key])["error"] == f'exec: "{HIDDEN}": executable file not found in $PATH'


@pytest.mark.parametrize(
    ("reference", "shown"),
    [
        (f"apiary/web:1@sha256:{'0' * 64}", "apiary/web:1"),
        ("127.0.0.1:5000/apiary/web:1", "127.0.0.1:5000/apiary/web:1"),
        (f"https://ann:{SECRETS['image login']}@registry.example/web:1", f"https://{HIDDEN}@registry.example/web:1"),
    ],
)
def test_images_are_shown_as_people_name_them(reference: str, shown: str) -> None:
    assert view.image(reference) == shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24T02:00:24.321794275Z", 1795485624321),
        ("2026-11-24T02:00:24Z", 1795485624000),
        ("2026-11-24T03:00:24.5+01:00", 1795485624500),
        ("0001-01-01T00:00:00Z", 0),
        (None, 0),
    ],
)
def test_times_are_in_milliseconds(text: str | None, expected: int) -> None:
    assert view.milliseconds(text) == expected


def test_a_manager_that_does_not_know_its_address_has_the_one_of_the_others() -> None:
    raw = {"ID": "n", "Status": {"Addr": "0.0.0.0"}, "ManagerStatus": {"Addr": "192.168.70.101:2377"}}  # noqa: S104
    assert view.node(raw)["address"] == "192.168.70.101"


# State → view


def composed(engine: FakeEngine, now_ms: int = 0) -> dict[str, view.Items]:
    nodes = {key: view.node(raw) for key, raw in engine.nodes.items()}
    services = {key: view.service(raw) for key, raw in engine.services.items()}
    tasks = {key: view.task(raw) for key, raw in engine.tasks.items()}
    return view.compose(nodes, services, tasks, now_ms or watch.now_ms())


def test_what_tasks_reserve_is_summed_up_by_node(engine: FakeEngine) -> None:
    ids = tutorial(engine)
    engine.add_task(ids["web"], ids["node1"], 9, "shutdown")
    engine.add_task(ids["web"], ids["node1"], 8, "failed")
    node = composed(engine)["nodes"][ids["node1"]]
    # one web, one redis, one visualizer, one ingress
    assert node["reserved"] == {"cpus": 200_000_000, "memory": (32 + 64 + 32 + 16) * 2**20}
    assert (node["cpus"], node["memory"], node["leader"], node["role"]) == (2 * 10**9, 4 * 2**30, True, "manager")


def test_services_count_what_runs(engine: FakeEngine) -> None:
    ids = tutorial(engine)
    engine.set_task(ids["web.2"], "failed", "shutdown")
    engine.replace(ids["web.2"], state="preparing")
    services = composed(engine)["services"]
    assert (services[ids["web"]]["running"], services[ids["web"]]["wanted"]) == (4, 5)
    assert (services[ids["ingress"]]["running"], services[ids["ingress"]]["wanted"]) == (5, 5)


@pytest.mark.parametrize(
    ("state", "desired", "minutes_ago", "replaced", "shown"),
    [
        ("running", "running", 900, False, True),
        ("preparing", "running", 0, False, True),
        ("running", "shutdown", 0, True, True),  # being stopped
        ("running", "remove", 0, False, True),
        ("shutdown", "shutdown", 0, True, False),
        ("shutdown", "remove", 0, False, False),
        ("failed", "shutdown", 14, True, True),
        ("failed", "shutdown", 16, True, False),
        ("failed", "shutdown", 16, False, True),  # nothing runs in its place
        ("rejected", "shutdown", 1, True, True),
        ("failed", "remove", 1, False, False),
        ("complete", "shutdown", 1, False, True),
        ("complete", "shutdown", 16, False, False),
        ("orphaned", "shutdown", 1, True, False),
    ],
)
def test_of_past_tasks_only_what_is_of_interest_is_shown(
    engine: FakeEngine, state: str, desired: str, minutes_ago: float, replaced: bool, shown: bool
) -> None:
    node, service = engine.add_node("node1", "manager"), engine.add_service("web", "web:1")
    key = engine.add_task(service, node, 1, state, desired=desired, seconds_ago=minutes_ago * 60)
    if replaced:
        engine.add_task(service, node, 1)
    assert (key in composed(engine)["tasks"]) == shown


def test_of_a_slot_only_the_last_failure_is_shown(engine: FakeEngine) -> None:
    node, service = engine.add_node("node1", "manager"), engine.add_service("web", "web:1")
    keys = [engine.add_task(service, node, 1, "failed", seconds_ago=ago) for ago in (30, 20, 10)]
    assert list(composed(engine)["tasks"]) == keys[2:]


def test_a_task_that_waits_says_why(engine: FakeEngine) -> None:
    service = engine.add_service("web", "web:1")
    key = engine.add_task(service, "", 1, "pending", error="no suitable node (insufficient resources on 5 nodes)")
    task = composed(engine)["tasks"][key]
    assert (task["state"], task["node"], task["error"]) == (
        "pending",
        "",
        "no suitable node (insufficient resources on 5 nodes)",
    )


# Changes


def test_a_diff_is_what_changed_and_nothing_else() -> None:
    old = {"nodes": {"a": {"x": 1}, "b": {"x": 1}}, "tasks": {"t": {"x": 1}}}
    new = {"nodes": {"a": {"x": 1}, "c": {"x": 3}}, "tasks": {"t": {"x": 2}}}
    assert view.diff(old, new) == {"nodes": {"c": {"x": 3}, "b": None}, "tasks": {"t": {"x": 2}}}
    assert view.diff(new, new) == {}
    assert view.diff({}, new) == new


def test_a_diff_of_a_large_swarm_is_small(engine: FakeEngine) -> None:
    ids = large(engine)
    before = composed(engine)
    engine.set_task(ids["tasks"][0], "failed", "shutdown", error="task: non-zero exit (1)")
    changes = view.diff(before, composed(engine))
    # the task, the service whose count it changes, the node whose sums
    assert {name: len(items) for name, items in changes.items()} == {"tasks": 1, "services": 1, "nodes": 1}
    assert len(json.dumps(changes)) < 3000 < 200_000 < len(json.dumps(before))


def test_what_is_the_same_is_shared() -> None:
    old = {"a": {"x": 1}, "b": {"x": 1}}
    shared = view.share(old, {"a": {"x": 1}, "b": {"x": 2}})
    assert shared == {"a": {"x": 1}, "b": {"x": 2}}
    assert shared["a"] is old["a"]


def story(engine: FakeEngine, change: Callable[[], Any]) -> list[tuple[str, str, str]]:
    """Return kind, text and detail of what is told of a change."""

    def read() -> tuple[view.Items, view.Items, view.Items]:
        return (
            {key: view.node(raw) for key, raw in engine.nodes.items()},
            {key: view.service(raw) for key, raw in engine.services.items()},
            {key: view.task(raw) for key, raw in engine.tasks.items()},
        )

    before = dict(zip(("nodes", "services", "tasks"), read(), strict=True))
    change()
    return [(item["kind"], item["text"], item["detail"]) for item in timeline.happenings(before, *read(), NOW)]


def _move(engine: FakeEngine, ids: dict[str, str]) -> None:
    engine.set_task(ids["web.2"], "shutdown", "shutdown")
    engine.replace(ids["web.2"], node=ids["node1"])


def _update_moves(engine: FakeEngine, ids: dict[str, str]) -> None:
    engine.update_service(ids["web"], image="apiary/web:2")
    _move(engine, ids)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda e, i: None, []),
        (
            lambda e, i: e.update_service(i["web"], image="apiary/web:2", update="updating"),
            [("deploy", "shop_web updated", "apiary/web:1d0f032e7f7c → apiary/web:2")],
        ),
        (lambda e, i: e.update_service(i["web"], replicas=7), [("deploy", "shop_web updated", "5 → 7 replicas")]),
        (lambda e, i: e.update_service(i["web"], env="A=secret"), [("deploy", "shop_web updated", "settings")]),
        (lambda e, i: e.update_service(i["web"], update="completed"), [("deploy", "shop_web: update finished", "")]),
        (
            lambda e, i: e.update_service(i["web"], image="apiary/web:0", update="rollback_started"),
            [("deploy", "shop_web: update failed, rolling back", "update rollback_started")],
        ),
        (lambda e, i: e.add_service("new", "new:1"), [("deploy", "shop_new deployed", "new:1")]),
        (lambda e, i: e.remove_service(i["redis"]), [("deploy", "shop_redis removed", "")]),
        (
            lambda e, i: e.set_task(i["web.2"], "failed", "shutdown", error="task: non-zero exit (1)"),
            [("failure", "shop_web.2 failed on node2", "task: non-zero exit (1)")],
        ),
        (
            lambda e, i: e.set_task(i["ingress.2"], "rejected", "shutdown", error="No such image: x"),
            [("failure", "shop_ingress rejected on node2", "No such image: x")],
        ),
        (_move, [("move", "shop_web.2 moved", "node2 → node1")]),
        (_update_moves, [("deploy", "shop_web updated", "apiary/web:1d0f032e7f7c → apiary/web:2")]),
        (lambda e, i: e.replace(i["web.2"]), []),
        (lambda e, i: e.set_node(i["node4"], state="down"), [("node", "node4 is down", "")]),
        (lambda e, i: e.set_node(i["node4"], availability="drain"), [("node", "node4: availability drain", "")]),
        (lambda e, i: e.set_node(i["node4"], role="manager"), [("node", "node4 promoted to manager", "")]),
        (lambda e, i: e.set_node(i["node2"], leader=True), [("node", "node2 is the leader now", "")]),
        (lambda e, i: e.add_node("node6"), [("node", "node6 joined", "worker")]),
        (lambda e, i: e.nodes.pop(i["node5"]), [("node", "node5 left", "")]),
    ],
)
def test_what_happened_is_told(engine: FakeEngine, change: Any, told: list[tuple[str, str, str]]) -> None:
    ids = tutorial(engine)
    assert story(engine, lambda: change(engine, ids)) == told


def test_what_repeats_is_counted() -> None:
    line = timeline.Timeline()
    for second in range(5):
        line.add(timeline.entry(NOW + second * 1000, "failure", "web.1 failed", "exit 1"))
        line.add(timeline.entry(NOW + second * 1000, "move", "web.2 moved"))
    assert [(item["text"], item["count"]) for item in line.entries.values() if item["kind"] == "failure"] == [
        ("web.1 failed", 5)
    ]
    assert len([item for item in line.entries.values() if item["kind"] == "move"]) == 5


def test_the_timeline_forgets() -> None:
    line = timeline.Timeline()
    line.add(timeline.entry(NOW - view.MEMORY_MS - 1, "node", "old"))
    for number in range(300):
        line.add(timeline.entry(NOW, "node", f"node{number} joined"))
    line.forget(NOW)
    assert [item["text"] for item in line.entries.values()][-1] == "node299 joined"
    assert len(line.entries) == timeline.MOST
    assert "old" not in {item["text"] for item in line.entries.values()}


def test_a_visualizer_that_just_started_knows_the_last_minutes(engine: FakeEngine) -> None:
    ids = tutorial(engine)
    fresh = engine.add_service("fresh", "fresh:1", seconds_ago=60)
    engine.add_task(fresh, ids["node1"], 1, "failed", seconds_ago=30, error="exit 1")
    engine.add_task(ids["web"], ids["node1"], 1, "failed", seconds_ago=3600)

    async def run() -> list[str]:
        async with watching(engine) as feed:
            await until(lambda: is_live(feed))
            return [item["text"] for item in feed.snapshot["timeline"].values()]

    assert asyncio.run(run()) == ["shop_fresh deployed", "shop_fresh.1 failed on node1"]


# Only reading


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_nothing_but_get_can_be_sent(engine: FakeEngine, method: str) -> None:
    async def run() -> None:
        async with reader(engine) as client:
            await client.connect()
            with pytest.raises(ForbiddenRequest, match=method):
                await client._session.request(method, "http://engine/v1.41/nodes")

    asyncio.run(run())
    assert {method for method, _ in engine.requests} == {"GET"}


@pytest.mark.parametrize(
    "path",
    ["/v1.41/swarm", "/v1.41/secrets", "/v1.41/containers/x/archive", "/v1.41/nodes/x", "/info", "/v1.41/tasks/"],
)
def test_nothing_but_what_is_shown_can_be_asked_for(engine: FakeEngine, path: str) -> None:
    async def run() -> None:
        async with reader(engine) as client:
            with pytest.raises(ForbiddenRequest, match=re.escape(path)):
                await client._session.get(f"http://engine{path}")

    asyncio.run(run())
    assert engine.requests == []


def test_a_get_with_a_body_cannot_be_sent(engine: FakeEngine) -> None:
    async def run() -> None:
        async with reader(engine) as client:
            with pytest.raises(ForbiddenRequest):
                await client._session.get("http://engine/v1.41/nodes", data="x")

    asyncio.run(run())
    assert engine.requests == []


def test_a_day_at_work_is_made_of_get(engine: FakeEngine) -> None:
    ids = tutorial(engine)

    async def run() -> None:
        async with watching(engine) as feed:
            await until(lambda: is_live(feed))
            engine.update_service(ids["web"], image="apiary/web:2")
            engine.set_node(ids["node2"], state="down")
            engine.remove_service(ids["redis"])
            await until(lambda: len(feed.snapshot["services"]) == 3)
            engine.refusal = NOT_A_MANAGER
            await until(lambda: not is_live(feed))

    asyncio.run(run())
    assert {method for method, _ in engine.requests} == {"GET"}
    paths = {path.partition("?")[0] for _, path in engine.requests}
    assert paths == {"/version", "/v1.41/nodes", "/v1.41/services", "/v1.41/tasks", "/v1.41/events"}


@pytest.mark.parametrize(
    ("newest", "oldest", "used"),
    [("1.40", "1.12", "1.40"), ("1.41", "1.12", "1.41"), ("1.47", "1.24", "1.41"), ("1.52", "1.44", "1.44")],
)
def test_the_version_of_the_api_is_one_that_the_engine_speaks(
    engine: FakeEngine, newest: str, oldest: str, used: str
) -> None:
    engine.version = {"Version": "x", "ApiVersion": newest, "MinAPIVersion": oldest}

    async def run() -> None:
        async with reader(engine) as client:
            await client.connect()
            assert client._version == f"v{used}"

    asyncio.run(run())


def test_a_long_list_is_read_piece_by_piece(engine: FakeEngine) -> None:
    ids = large(engine)
    engine.tasks[ids["tasks"][5]]["Spec"]["ContainerSpec"]["Env"] = ['A=}],[{"ID": "\\', "Ü=ü — ✓"]

    async def run() -> list[str]:
        async with reader(engine) as client:
            await client.connect()
            return [item["ID"] async for item in client.items("tasks", {})]

    assert asyncio.run(run()) == ids["tasks"]


# When the manager is away


async def problem(fake: FakeEngine) -> EngineError:
    async with reader(fake) as client:
        with pytest.raises(EngineError) as caught:
            await client.connect()
            [item async for item in client.items("nodes", {})]
        return caught.value


@pytest.mark.parametrize(
    ("refusal", "problem_says", "remedy_says"),
    [
        (NOT_A_MANAGER, "not a manager", "node.role == manager"),
        ((500, "rpc error: code = Unknown desc = The swarm does not have a leader."), "no leader", "more than half"),
        ((500, "it broke: password=hunter2"), f"500: it broke: password={HIDDEN}", "log"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    engine: FakeEngine, refusal: tuple[int, str], problem_says: str, remedy_says: str
) -> None:
    engine.refusal = refusal
    error = asyncio.run(problem(engine))
    assert problem_says in error.problem
    assert remedy_says in error.remedy


def test_an_engine_that_is_too_old_is_refused(engine: FakeEngine) -> None:
    engine.version = {"Version": "18.09", "ApiVersion": "1.39", "MinAPIVersion": "1.12"}
    error = asyncio.run(problem(engine))
    assert ("1.39" in error.problem, "19.03" in error.remedy) == (True, True)


def test_a_socket_that_is_not_there(engine: FakeEngine) -> None:
    engine.stop()
    engine.socket.unlink(missing_ok=True)
    error = asyncio.run(problem(engine))
    assert error.problem == f"There is no socket {engine.socket}"
    assert "VISUALIZER_SOCKET" in error.remedy


def test_a_socket_where_nobody_listens(engine: FakeEngine) -> None:
    import socket

    engine.stop()
    engine.socket.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(engine.socket))
    error = asyncio.run(problem(engine))
    assert f"No engine answers at {engine.socket}" in error.problem


def test_a_socket_of_somebody_else(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may use every socket, so the kernel's answer is given here."""

    async def refused(*_arguments: Any, **_more: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    group = engine.socket.stat().st_gid

    async def run() -> EngineError:
        async with reader(engine) as client:
            monkeypatch.setattr(asyncio.get_running_loop(), "create_unix_connection", refused, raising=False)
            with pytest.raises(EngineError) as caught:
                await client.connect()
            return caught.value

    error = asyncio.run(run())
    assert "may not be used" in error.problem
    assert f'user: "65534:{group}"' in error.remedy


def test_an_engine_that_hangs_is_found_out(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visualizer.engine.PATIENCE", 0.3)
    engine.lock.acquire()  # it accepts, and never answers
    try:

        async def run() -> EngineError:
            async with reader(engine) as client:
                with pytest.raises(EngineError) as caught:
                    [piece async for piece in client._read("/v1.41/nodes", {}, 0.3)]
                return caught.value

        assert "has said nothing" in asyncio.run(run()).problem
    finally:
        engine.lock.release()


def test_the_manager_goes_away_and_comes_back(engine: FakeEngine) -> None:
    ids = tutorial(engine)

    async def run() -> None:
        async with watching(engine) as feed:
            await until(lambda: is_live(feed))
            engine.stop()
            await until(lambda: not is_live(feed), seconds=2)
            assert len(feed.snapshot["tasks"]) == 12  # what was known stays to be seen
            assert feed.snapshot["status"]["engine"]["problem"]
            engine.set_task(ids["web.1"], "failed", "shutdown", error="exit 1")
            engine.start()
            await until(lambda: is_live(feed), seconds=3)
            assert happened(feed, "failure") == ["shop_web.1 failed on node1"]
            assert happened(feed, "engine")[-1] == "The manager answers again"

    asyncio.run(run())


# Within a second


SEEN: list[Any] = [
    (lambda e, i: e.update_service(i["web"], replicas=7), lambda s, i: s["services"][i["web"]]["wanted"] == 7),
    (lambda e, i: e.set_node(i["node4"], state="down"), lambda s, i: s["nodes"][i["node4"]]["state"] == "down"),
    (lambda e, i: e.add_service("new", "new:1"), lambda s, i: len(s["services"]) == 5),
]


async def seen_after(engine: FakeEngine, change: Any, seen: Any) -> None:
    ids = tutorial(engine)
    async with watching(engine) as feed:
        await until(lambda: is_live(feed))
        await asyncio.sleep(0.3)  # it listens by now
        change(engine, ids)
        await until(lambda: seen(feed.snapshot, ids))


@pytest.mark.parametrize(("change", "seen"), SEEN)
def test_an_event_is_acted_on_at_once(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, change: Any, seen: Any
) -> None:
    monkeypatch.setattr(watch, "CALM_SECONDS", 60)
    monkeypatch.setattr(watch, "REST_SECONDS", 60)
    asyncio.run(seen_after(engine, change, seen))


def test_what_no_event_tells_of_is_seen_all_the_same(engine: FakeEngine) -> None:
    assert watch.CALM_SECONDS <= 1
    asyncio.run(
        seen_after(
            engine,
            lambda e, i: e.set_task(i["web.4"], "failed", "shutdown", error="exit 1"),
            lambda s, i: s["tasks"][i["web.4"]]["state"] == "failed",
        )
    )


def test_after_an_event_of_a_service_only_its_tasks_are_read(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "CALM_SECONDS", 60)
    ids = tutorial(engine)

    async def run() -> None:
        async with watching(engine) as feed:
            await until(lambda: is_live(feed))
            await asyncio.sleep(0.2)
            engine.requests.clear()
            engine.set_task(ids["web.2"], "failed", "shutdown")
            engine.event("container", "die", "c", **{"com.docker.swarm.service.id": ids["web"], "x": SECRETS["label"]})
            await until(lambda: feed.snapshot["tasks"][ids["web.2"]]["state"] == "failed")

    asyncio.run(run())
    asked = [path for _, path in engine.requests if "/tasks" in path]
    assert asked
    assert all(ids["web"] in path and ids["redis"] not in path for path in asked)


def test_tasks_that_are_what_they_were_are_not_worked_through(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "CALM_SECONDS", 0.1)
    monkeypatch.setattr(watch, "_SHARE", 0)
    ids = tutorial(engine)
    seen: list[str] = []
    task = view.task

    def counting(raw: dict[str, Any]) -> dict[str, Any]:
        seen.append(raw["ID"])
        return task(raw)

    monkeypatch.setattr(view, "task", counting)

    async def run() -> None:
        async with watching(engine) as feed:
            await until(lambda: is_live(feed))
            engine.requests.clear()
            await until(lambda: len([path for _, path in engine.requests if "/tasks" in path]) > 3)
            assert len(seen) == 12
            engine.set_task(ids["web.1"], "failed", "shutdown")
            await until(lambda: feed.snapshot["tasks"][ids["web.1"]]["state"] == "failed")
            assert len(seen) >= 24

    asyncio.run(run())


def test_a_service_that_just_went_is_no_error(engine: FakeEngine) -> None:
    ids = tutorial(engine)

    async def run() -> None:
        async with watching(engine) as feed:
            await until(lambda: is_live(feed))
            with engine.lock:
                del engine.services[ids["web"]]
                engine.tasks = {k: t for k, t in engine.tasks.items() if t["ServiceID"] != ids["web"]}
            engine.event("container", "die", "c", **{"com.docker.swarm.service.id": ids["web"]})
            await until(lambda: ids["web"] not in feed.snapshot["services"])
            assert is_live(feed)
            assert happened(feed, "engine") == []

    asyncio.run(run())


# The server


@asynccontextmanager
async def serving(feed: Feed, login: bytes | None = None) -> AsyncIterator[str]:
    stopping = asyncio.Event()
    runner = aiohttp_web.AppRunner(application(feed, login, stopping))
    await runner.setup()
    site = aiohttp_web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        stopping.set()
        await runner.cleanup()


def visit(login: bytes | None, path: str, headers: dict[str, str] | None = None) -> tuple[int, Mapping[str, str], str]:
    async def run() -> tuple[int, Mapping[str, str], str]:
        async with (
            serving(Feed(), login) as url,
            aiohttp.ClientSession() as session,
            session.get(url + path, headers=headers) as response,
        ):
            return response.status, response.headers, await response.text()

    return asyncio.run(run())


FILES = sorted(f"/{path.name}" for path in (IMAGE / "page").iterdir() if path.name != "index.html")


@pytest.mark.parametrize("path", ["/", *FILES, "/health"])
def test_everything_is_served_with_a_strict_policy(path: str) -> None:
    status, headers, _ = visit(None, path)
    policy = headers["Content-Security-Policy"]
    assert status == 200
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "aiohttp" not in headers["Server"]


def test_the_page_needs_nothing_from_elsewhere_and_nothing_inline() -> None:
    page = visit(None, "/")[2]
    assert re.findall(r"(?:src|href)=\"(?!/|#)", page) == []
    assert re.findall(r"<style|style=|\bon\w+=|<script(?![^>]*\bsrc=)", page) == []
    preloaded = re.findall(r'modulepreload" href="([^"]+)"', page)
    assert sorted([*preloaded, "/main.js"]) == [path for path in FILES if path.endswith(".js")]
    for path in FILES:
        text = visit(None, path)[2]
        assert [
            url for url in re.findall(r"https?://[^\s\"')]+", text) if "www.w3.org" not in url and "gnu.org" not in url
        ] == []


def test_what_a_browser_has_is_not_sent_again() -> None:
    etag = visit(None, "/main.js")[1]["ETag"]
    assert visit(None, "/main.js", {"If-None-Match": etag})[0] == 304
    assert visit(None, "/main.js", {"If-None-Match": '"other"'})[0] == 200


@pytest.mark.parametrize("path", ["/..%2fvisualizer/web.py", "/nothing", "/visualizer/web.py"])
def test_other_files_are_not_served(path: str) -> None:
    assert visit(None, path)[0] == 404


def basic(login: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 401),
        ("/events", {}, 401),
        ("/main.js", {}, 401),
        ("/nothing", {}, 401),
        ("/", basic("ann:wrong"), 401),
        ("/", basic("ann:honey bee"), 401),
        ("/", basic("ann:honey bée!"), 401),
        ("/", basic(""), 401),
        ("/", {"Authorization": "Basic ???"}, 401),
        ("/", {"Authorization": "Bearer " + base64.b64encode("ann:honey bée".encode()).decode()}, 401),
        ("/", basic("ann:honey bée"), 200),
        ("/events", basic("ann:honey bée"), 200),
        ("/health", {}, 200),
    ],
)
def test_with_a_login_only_who_has_it_sees_the_swarm(
    path: str, headers: dict[str, str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visualizer.web._WRONG_LOGIN_SECONDS", 0)

    async def run() -> None:
        async with (
            serving(Feed(), "ann:honey bée".encode()) as url,
            aiohttp.ClientSession() as session,
            session.get(url + path, headers=headers) as response,
        ):
            assert response.status == status
            assert ("WWW-Authenticate" in response.headers) == (status == 401)

    asyncio.run(run())


def test_a_login_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import hmac

    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert visit(b"ann:x", "/", basic("ann:" + "x" * 50))[0] == 401
    assert compared == [(32, 32)]


async def read_event(response: aiohttp.ClientResponse) -> tuple[str, Any]:
    kind = (await response.content.readline()).decode().removeprefix("event: ").strip()
    data = (await response.content.readline()).decode().removeprefix("data: ")
    await response.content.readline()
    return kind, json.loads(data)


def test_browsers_get_the_state_and_then_changes_and_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visualizer.web.BEAT_SECONDS", 0.2)

    async def run() -> None:
        feed = Feed()
        feed.publish({"tasks": {"a": {"x": 1}, "b": {"x": 1}}})
        async with (
            serving(feed) as url,
            aiohttp.ClientSession() as session,
            session.get(f"{url}/events") as response,
        ):
            kind, data = await read_event(response)
            assert (kind, data["tasks"]) == ("state", {"a": {"x": 1}, "b": {"x": 1}})
            feed.publish({"tasks": {"a": {"x": 2}}})
            kind, data = await read_event(response)
            assert (kind, data["tasks"]) == ("change", {"a": {"x": 2}, "b": None})
            assert abs(data["now"] - time.time() * 1000) < 5000
            assert (await read_event(response))[0] == "beat"

    asyncio.run(run())


def test_a_browser_that_is_slow_gets_the_sum_of_what_it_missed() -> None:
    async def run() -> None:
        feed = Feed()
        feed.publish({"tasks": {"a": {"x": 0}}})
        seen = feed.snapshot
        for number in range(1, 100):
            feed.publish({"tasks": {"a": {"x": number}}})
        current = await asyncio.wait_for(feed.next(seen), 1)
        assert view.diff(seen, current) == {"tasks": {"a": {"x": 99}}}
        feed.publish({"tasks": {"a": {"x": 99}}})
        assert feed.snapshot is current  # no news

    asyncio.run(run())


def test_too_many_browsers_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visualizer.web.MOST_BROWSERS", 1)

    async def run() -> None:
        async with (
            serving(Feed()) as url,
            aiohttp.ClientSession() as session,
            session.get(f"{url}/events"),
            session.get(f"{url}/events") as second,
        ):
            assert (second.status, second.headers["Retry-After"]) == (503, "10")

    asyncio.run(run())


# The process


@pytest.fixture
def server(engine: FakeEngine) -> Iterator[Server]:
    server = Server(engine.socket)
    yield server
    server.stop(signal.SIGKILL)


def test_no_secret_leaves_the_process(engine: FakeEngine, server: Server) -> None:
    ids = tutorial(engine)
    error = f"password={SECRETS['argument']} {SECRETS['environment']} https://ann:{SECRETS['image login']}@x/"
    engine.add_task(ids["web"], ids["node1"], 9, "failed", error=error)
    server.start()

    async def run() -> str:
        text = ""
        async with aiohttp.ClientSession() as session:
            for path in ("/", *FILES, "/health"):
                async with session.get(server.url + path) as response:
                    text += await response.text()
            async with session.get(f"{server.url}/events") as response:
                while '"shop_web.9 failed on node1"' not in text:
                    text += (await asyncio.wait_for(response.content.readline(), 5)).decode()
                engine.set_task(ids["web.1"], "failed", "shutdown", error=error)
                engine.update_service(ids["web"], env=f"X={SECRETS['environment']}", update="paused")
                while '"update paused"' not in text or "shop_web.1 failed" not in text:
                    text += (await asyncio.wait_for(response.content.readline(), 5)).decode()
        return text

    text = asyncio.run(run())
    assert HIDDEN.encode("unicode_escape").decode() in text
    assert [name for name, secret in SECRETS.items() if secret in text] == []


def test_sigterm_ends_it_at_once_though_browsers_look(engine: FakeEngine, server: Server) -> None:
    tutorial(engine)
    server.start()

    async def run() -> tuple[int, float]:
        async with aiohttp.ClientSession() as session, session.get(f"{server.url}/events") as response:
            await read_event(response)
            started = time.monotonic()
            status = await asyncio.to_thread(server.stop)
            return status, time.monotonic() - started

    status, seconds = asyncio.run(run())
    assert status == 0
    assert seconds < 2


def test_sigterm_ends_it_while_it_starts(engine: FakeEngine) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(IMAGE),
        "VISUALIZER_SOCKET": str(engine.socket),
        "VISUALIZER_PORT": "0",
    }
    code = (
        "import os, signal, visualizer.__main__ as m\n"
        "m.from_environment = lambda _: os.kill(os.getpid(), signal.SIGTERM)\n"
        "m.main()"
    )
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=10, check=False).returncode == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"VISUALIZER_PORT": "http"}, ["VISUALIZER_PORT", "'http'", "1 to 65535"]),
        ({"VISUALIZER_PORT": "70000"}, ["VISUALIZER_PORT", "'70000'", "1 to 65535"]),
        ({"VISUALIZER_PORT": ""}, ["VISUALIZER_PORT", "''", "8080"]),
        ({"VISUALIZER_SOCKET": "tcp://1.2.3.4:2375"}, ["VISUALIZER_SOCKET", "tcp://", "absolute path", "mount"]),
        ({"VISUALIZER_LOGIN_FILE": "/no/such"}, ["VISUALIZER_LOGIN_FILE", "/no/such", "No such file", "user:password"]),
        ({"VISUALIZER_PROT": "80"}, ["VISUALIZER_PROT", "'80'", "no such setting", "VISUALIZER_PORT"]),
    ],
)
def test_a_setting_that_is_wrong_is_named_with_its_value_and_a_remedy(
    settings: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        from_environment(settings)
    assert [word for word in words if word not in str(error.value)] == []


@pytest.mark.parametrize("content", ["", "ann", "ann:", ":hunter2", "ann:hunter2\nbob:hunter3", "hunter2\n"])
def test_a_login_that_is_none_is_refused_and_not_shown(tmp_path: Path, content: str) -> None:
    path = tmp_path / "login"
    path.write_text(content)
    with pytest.raises(ConfigError, match="user:password") as error:
        from_environment({"VISUALIZER_LOGIN_FILE": str(path)})
    assert "hunter" not in str(error.value)


def test_a_login_may_end_with_a_new_line_and_have_colons(tmp_path: Path) -> None:
    path = tmp_path / "login"
    path.write_text("ann:a:b \n")
    assert from_environment({"VISUALIZER_LOGIN_FILE": str(path)}).login == b"ann:a:b "


def test_the_defaults_are_those_of_the_container() -> None:
    assert from_environment({}) == ("0.0.0.0", 8080, "/var/run/docker.sock", None)  # noqa: S104


@pytest.mark.parametrize("settings", [{"VISUALIZER_PORT": "x"}, {"VISUALIZER_ADDRESS": "192.0.2.1"}])
def test_bad_settings_end_it_with_one_line(engine: FakeEngine, settings: dict[str, str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(IMAGE), "VISUALIZER_SOCKET": str(engine.socket), **settings}
    result = subprocess.run(
        [sys.executable, "-m", "visualizer"], env=environment, capture_output=True, text=True, timeout=20, check=False
    )
    assert result.returncode == 2
    assert next(iter(settings)) in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_fake_engine_refuses_what_an_engine_would(engine: FakeEngine) -> None:
    """The tests above believe it."""

    async def run() -> list[int]:
        connector = aiohttp.UnixConnector(str(engine.socket))
        statuses = []
        async with aiohttp.ClientSession(connector=connector) as session:
            asked: list[Awaitable[aiohttp.ClientResponse]] = [
                session.post("http://engine/v1.41/nodes"),
                session.get("http://engine/v1.41/secrets"),
                session.get("http://engine/v1.41/nodes"),
            ]
            for request in asked:
                statuses.append((await request).status)
        return statuses

    assert asyncio.run(run()) == [500, 404, 200]
    assert timestamp().endswith("Z")
