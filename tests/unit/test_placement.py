# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where tasks are and could be, and what hangs on one node: tables of cases, no Docker."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils import placement
from ansible_collections.apiary.swarm.plugins.module_utils.placement import Data, Lack

Object = dict[str, Any]


def node(name: str, role: str = "worker", **changes: Any) -> Object:
    """A node; changes are availability, state, labels, cpus, reach and leader."""
    made: Object = {
        "ID": f"id-{name}",
        "Spec": {
            "Role": role,
            "Availability": changes.get("availability", "active"),
            "Labels": changes.get("labels", {}),
        },
        "Description": {"Hostname": name, "Resources": {"NanoCPUs": changes.get("cpus", 4), "MemoryBytes": 100}},
        "Status": {"State": changes.get("state", "ready"), "Addr": ""},
    }
    if role == "manager":
        made["ManagerStatus"] = {"Reachability": changes.get("reach", "reachable"), "Leader": changes.get("leader")}
    return made


def service(replicas: int | None = 2, **changes: Any) -> Object:
    """A service, global with None for replicas; changes are mounts, placement, cpus, env, update, mode."""
    template: Object = {
        "ContainerSpec": {"Image": "web", "Mounts": changes.get("mounts", []), "Env": changes.get("env", [])},
        "Placement": changes.get("placement", {}),
        "Resources": {"Reservations": {"NanoCPUs": changes["cpus"]}} if "cpus" in changes else {},
    }
    mode = {"Global": {}} if replicas is None else {"Replicated": {"Replicas": replicas}}
    made: Object = {
        "ID": changes.get("name", "web"),
        "Spec": {"Name": changes.get("name", "web"), "TaskTemplate": template, "Mode": changes.get("mode", mode)},
    }
    if "update" in changes:
        made["UpdateStatus"] = {"State": changes["update"]}
    return made


def task(
    where: str, state: str = "running", desired: str = "running", of: Object | None = None, **status: str
) -> Object:
    owner = of or service()
    return {
        "ServiceID": owner["ID"],
        "NodeID": f"id-{where}" if where else "",
        "Spec": owner["Spec"]["TaskTemplate"],
        "Status": {"State": state, **status},
        "DesiredState": desired,
    }


def on(**counts: int) -> list[Object]:
    return [task(name) for name, count in counts.items() for _ in range(count)]


NODES = [node(name) for name in "abcd"]


# An even spread


@pytest.mark.parametrize(
    ("counts", "moved"),
    [
        ({"a": 1, "b": 1}, 0),
        ({"a": 2, "b": 1, "c": 1, "d": 1}, 0),
        ({"a": 2, "b": 2}, 2),
        ({"a": 5}, 3),
        ({"a": 2, "b": 2, "c": 1}, 1),
        ({"a": 3, "b": 3, "c": 3}, 2),
        ({"a": 40}, 30),
        ({}, 0),
    ],
)
def test_as_many_tasks_move_as_an_even_spread_needs(counts: dict[str, int], moved: int) -> None:
    assert placement.moves(service(sum(counts.values())), on(**counts), NODES) == moved


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({"availability": "drain"}, 0),
        ({"availability": "pause"}, 0),
        ({"state": "down"}, 0),
        ({}, 1),
    ],
)
def test_only_nodes_that_take_tasks_get_some(changes: dict[str, str], moved: int) -> None:
    assert placement.moves(service(), on(a=2), [node("a"), node("b", **changes)]) == moved


@pytest.mark.parametrize(
    ("options", "moved"),
    [
        ({"placement": {"Constraints": ["node.labels.disk == ssd"]}}, 1),  # to b, not to c
        ({"placement": {"Constraints": ["node.hostname == a"]}}, 0),
        ({"placement": {"MaxReplicas": 1}}, 2),
        ({"cpus": 2}, 2),  # each has room for two
        ({"cpus": 4}, 2),
        ({"cpus": 5}, 0),  # no node has room for one
    ],
)
def test_tasks_move_to_nodes_that_can_have_them(options: Object, moved: int) -> None:
    nodes = [node("a", labels={"disk": "ssd"}), node("b", labels={"disk": "ssd"}), node("c")]
    own = service(3, **options)
    assert placement.moves(own, [task("a", of=own)] * 3, nodes) == moved


def test_room_that_other_services_have_reserved_is_taken() -> None:
    other, own = service(1, name="other", cpus=3), service(2, cpus=2)
    tasks = [task("b", of=other), task("a", of=own), task("a", of=own)]
    assert placement.moves(own, tasks, [node("a"), node("b")]) == 0
    assert placement.moves(own, tasks[1:], [node("a"), node("b")]) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, ""),
        ({"update": "completed"}, ""),
        ({"update": "updating"}, "its update is updating"),
        ({"update": "rollback_paused"}, "its update is rollback paused"),
        ({"placement": {"Preferences": [{"Spread": {}}]}}, "its template spreads them over labels"),
        ({"env": ["ID={{.Task.Slot}}"]}, "its tasks are told apart by their numbers"),
    ],
)
def test_what_a_move_would_spoil_is_left_alone(options: Object, reason: str) -> None:
    assert placement.why_left_alone(service(**options)) == reason


@pytest.mark.parametrize(
    ("replicas", "counts", "crowded"),
    [(2, {"a": 2}, True), (2, {"a": 1, "b": 1}, False), (1, {"a": 1}, False), (2, {"b": 2}, False)],
)
def test_service_is_crowded_when_all_of_it_is_on_the_node(replicas: int, counts: dict[str, int], crowded: bool) -> None:
    assert placement.is_crowded(service(replicas), on(**counts), NODES, "id-a") == crowded
    assert not placement.is_crowded(service(replicas), on(**counts), [node("a")], "id-a")  # there is no elsewhere


# Whether all runs that should


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (on(a=1, b=1), Lack()),
        (on(a=1), Lack(1)),
        ([*on(a=1), task("b", "starting")], Lack(1, 1)),
        ([*on(a=1), task("", "pending", Err="no suitable node")], Lack(1, 0, "no suitable node")),
        ([*on(a=1), task("", "pending")], Lack(1, 1)),
        ([*on(a=1), task("down")], Lack(1)),
        ([*on(a=1), task("b", "running", "shutdown")], Lack(1)),
        ([*on(a=1), task("b", "failed", "shutdown"), task("b", "ready", "ready")], Lack(1, 1)),
    ],
)
def test_tasks_that_run_where_they_can_be_seen_count(tasks: list[Object], expected: Lack) -> None:
    found = placement.lack(service(), tasks, [*NODES, node("down", state="down")])
    assert found == expected
    assert found.is_stuck == bool(expected.reason)


def test_global_service_wants_a_task_on_each_node_that_is_not_drained() -> None:
    nodes = [node("a"), node("b"), node("c", availability="drain")]
    assert placement.lack(service(None), on(a=1), nodes) == Lack(1)
    assert placement.lack(service(None), on(a=1, b=1), nodes) == Lack()


def test_job_lacks_nothing() -> None:
    assert placement.lack(service(mode={"ReplicatedJob": {}}), [], NODES) == Lack()


# What hangs on one node


@pytest.mark.parametrize(
    ("constraint", "replicas", "others", "pinned"),
    [
        ("node.hostname == a", 1, {}, True),
        ("node.hostname == a", 0, {}, False),
        ("node.role == manager", 1, {}, False),
        ("node.role == manager", 1, {"availability": "drain"}, True),
        ("node.role == manager", 1, {"state": "down"}, True),
        ("node.hostname == b", 1, {}, False),
    ],
)
def test_service_is_pinned_when_no_other_node_can_have_it(
    constraint: str, replicas: int, others: Object, pinned: bool
) -> None:
    nodes = [node("a", "manager"), node("b", "manager", **others)]
    own = service(replicas, placement={"Constraints": [constraint]})
    assert placement.is_pinned(own, nodes, "id-a") == pinned


def test_service_stays_pinned_to_a_node_that_is_drained_or_down() -> None:
    own = service(1, placement={"Constraints": ["node.hostname == a"]})
    for changes in ({"availability": "drain"}, {"state": "down"}):
        assert placement.is_pinned(own, [node("a", **changes), node("b")], "id-a")


def test_global_service_is_pinned_nowhere() -> None:
    assert not placement.is_pinned(service(None), [node("a")], "id-a")


def volume(source: str = "data", **driver: Any) -> Object:
    return {"Type": "volume", "Source": source, "Target": "/data", "VolumeOptions": {"DriverConfig": driver}}


def bound(source: str, *, read_only: bool = False) -> Object:
    return {"Type": "bind", "Source": source, "Target": "/data", "ReadOnly": read_only}


NFS = {"type": "nfs", "o": "addr=10.0.0.1,rw", "device": ":/export"}


@pytest.mark.parametrize(
    ("mount", "expected"),
    [
        (volume(), "the volume data of the service web"),
        (volume(Name="local"), "the volume data of the service web"),
        (volume(Name="local", Options=NFS), ""),
        (volume(Name="local", Options={"o": "addr=10.0.0.1"}), ""),
        (volume(Name="rexray"), ""),
        (volume(source=""), ""),  # lost with every deploy anyway
        (bound("/var/lib/apiary/redis"), "the directory /var/lib/apiary/redis of the service web"),
        (bound("/etc/app", read_only=True), ""),
        (bound("/var/run/docker.sock"), ""),
        (bound("/run/app/app.sock"), ""),
        (bound("/proc"), ""),
        (bound("/products"), "the directory /products of the service web"),
        ({"Type": "tmpfs", "Target": "/scratch"}, ""),
        ({"Type": "npipe", "Source": "x"}, ""),
    ],
)
def test_what_a_service_keeps_on_its_node_alone_is_found(mount: Object, expected: str) -> None:
    own = service(1, mounts=[mount])
    assert ", ".join(map(str, placement.data_on("id-a", [own], [task("a", of=own)], None))) == expected
    assert placement.data_on("id-b", [own], [task("a", of=own)], None) == []


def test_task_that_has_left_the_node_has_left_its_data_there() -> None:
    own = service(1, mounts=[bound("/srv/data")])
    tasks = [task("a", "shutdown", "shutdown", of=own), task("b", of=own)]
    assert placement.data_on("id-a", [own], tasks, None) == [Data("web", "the directory /srv/data")]


def test_engine_that_answers_tells_its_volumes() -> None:
    own = service(1, mounts=[volume("web_data")])
    listed: list[Object] = [
        {"Name": "web_data", "Driver": "local", "Options": None},
        {"Name": "by_hand", "Driver": "local", "Options": {}},
        {"Name": "shared", "Driver": "local", "Options": NFS},
        {"Name": "f" * 64, "Driver": "local", "Options": None},
    ]
    found = placement.data_on("id-b", [own], [task("a", of=own)], listed)
    assert sorted(map(str, found)) == ["the volume by_hand", "the volume web_data of the service web"]
    # what the engine does not have is not there, whatever ran on it
    assert placement.data_on("id-a", [own], [task("a", of=own)], []) == []


# Managers


@pytest.mark.parametrize(
    ("managers", "leaving", "risk"),
    [
        ({"a": 1, "b": 1, "c": 1}, "a", ""),
        ({"a": 1, "b": 1}, "a", "of 2 managers 2 are a majority, and 1 in reach would stay"),
        ({"a": 1}, "a", "it is the only manager"),
        ({"a": 1, "b": 1, "c": 0}, "c", ""),  # the dead one
        ({"a": 1, "b": 1, "c": 0}, "a", "of 3 managers 2 are a majority, and 1 in reach would stay (c cannot be)"),
        ({"a": 1, "b": 1, "c": 1, "d": 1}, "a", ""),
        ({"a": 1, "b": 1, "c": 1, "d": 1, "e": 0}, "a", ""),
        ({"a": 1, "b": 1, "c": 1, "d": 0, "e": 0}, "a", "of 5 managers 3 are a majority, and 2 in reach would stay"),
        ({"a": 1, "b": 1}, "worker", ""),
    ],
)
def test_swarm_must_live_on_should_the_manager_break_at_once(managers: dict[str, int], leaving: str, risk: str) -> None:
    nodes = [node(name, "manager", reach="reachable" if up else "unreachable") for name, up in managers.items()]
    found = placement.quorum_risk([*nodes, node("worker")], f"id-{leaving}")
    assert found.startswith(risk) if risk else not found


def test_what_is_down_comes_first_and_the_leader_last() -> None:
    nodes = [
        node("m1", "manager", leader=True),
        node("m2", "manager"),
        node("w2"),
        node("m3", "manager", state="down"),
        node("w1", state="down"),
        node("w3"),
    ]
    assert placement.caring_order(nodes) == [f"id-{name}" for name in ("m3", "w1", "w2", "w3", "m2", "m1")]
