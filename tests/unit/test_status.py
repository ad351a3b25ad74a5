# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A sound cluster is healthy; what is wrong with one is told as what it is, a problem, a warning or a difference."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils.promises import Engine, Host, Seen, Swarm
from ansible_collections.apiary.swarm.plugins.module_utils.status import (
    Certificate,
    Machine,
    Port,
    Sight,
    clean_swarm,
    differences,
    problems,
    span,
    warnings,
)
from ansible_collections.apiary.swarm.plugins.module_utils.status_report import document_of, told

Object = dict[str, Any]
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
WEB = {"image": "apiary/web:1", "deploy": {"replicas": 2}}


def ago(**time: float) -> str:
    return (NOW - timedelta(**time)).isoformat().replace("+00:00", "Z")


class Cluster:
    """What is seen of a manager and a worker with a task of web on each, in parts that a test can change."""

    def __init__(self) -> None:
        self.hosts = {
            "m1": Host("m1", "manager", {"docker_host": "tcp://127.0.0.101:2376"}, "10.0.0.1", "127.0.0.101"),
            "w1": Host("w1", "worker", {"docker_host": "tcp://127.0.0.102:2376"}, "10.0.0.2", "127.0.0.102"),
        }
        self.engines = {name: Engine(info={"Swarm": {"NodeID": f"id-{name}"}}) for name in self.hosts}
        self.machines = {name: Machine("20.10.24", "1.41", 0.1) for name in self.hosts}
        self.nodes = {name: self.node(name, host.role, host.address) for name, host in self.hosts.items()}
        self.nodes["m1"]["ManagerStatus"] = {"Leader": True, "Reachability": "reachable", "Addr": "10.0.0.1:2377"}
        self.service: Object = {
            "ID": "s1",
            "CreatedAt": ago(hours=3),
            "UpdatedAt": ago(hours=2),
            "Spec": {
                "Name": "shop_web",
                "Labels": {"com.docker.stack.namespace": "shop"},
                "Mode": {"Replicated": {"Replicas": 2}},
                "TaskTemplate": {"ContainerSpec": {"Image": "apiary/web:1"}},
            },
            "Endpoint": {"Ports": [{"Protocol": "tcp", "PublishedPort": 4000, "PublishMode": "ingress"}]},
        }
        self.tasks = [self.task("m1", 1), self.task("w1", 2)]
        self.ports = [Port("shop_web", 4000, name, host.entrypoint) for name, host in self.hosts.items()]
        self.certificates = [
            Certificate("this computer", NOW - timedelta(days=30), NOW + timedelta(days=700)),
            Certificate("w1", NOW - timedelta(days=30), NOW + timedelta(days=700)),
        ]
        self.has_swarm = True

    @staticmethod
    def node(name: str, role: str, address: str) -> Object:
        return {
            "ID": f"id-{name}",
            "UpdatedAt": ago(hours=5),
            "Spec": {"Role": role, "Availability": "active", "Labels": {}},
            "Description": {"Hostname": name, "Engine": {"EngineVersion": "20.10.24"}},
            "Status": {"State": "ready", "Addr": address},
        }

    def task(self, node: str, slot: int, state: str = "running", desired: str = "running", **status: Any) -> Object:
        return {
            "ID": f"t{slot}{state}",
            "ServiceID": "s1",
            "Slot": slot,
            "NodeID": f"id-{node}",
            "Spec": self.service["Spec"]["TaskTemplate"],
            "CreatedAt": ago(minutes=5),
            "UpdatedAt": ago(minutes=5),
            "DesiredState": desired,
            "Status": {"State": state, "Timestamp": ago(minutes=5), **status},
        }

    def sight(self) -> Sight:
        swarm = Swarm(
            "c1", NOW, list(self.nodes.values()), {"web": self.service}, self.tasks, address_pools=["10.0.0.0/8"]
        )
        seen = Seen(
            list(self.hosts.values()), self.engines, swarm if self.has_swarm else None, {"services": {"web": WEB}}
        )
        return Sight(
            "apiary",
            NOW,
            seen,
            self.machines,
            [self.service] if self.has_swarm else [],
            self.tasks,
            {"Spec": {"CAConfig": {"NodeCertExpiry": 90 * 86400 * 10**9}}},
            "m1",
            self.certificates,
            self.ports,
        )


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_sound_cluster_is_healthy_and_as_asked_for(cluster: Cluster) -> None:
    sight = cluster.sight()
    assert (problems(sight), warnings(sight), differences(sight)) == ([], [], [])
    text = told(sight)
    assert text.startswith("Cluster apiary is healthy\n")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "m1 leader ready 1 20.10.24 10.0.0.1 127.0.0.101" in lines
    assert "shop_web 2/2 m1, w1 apiary/web:1 2 h ago 4000 through 2 of 2" in lines
    assert "this computer 30 days ago in 700 days" in lines


Change = Callable[[Cluster], None]


def silent(cluster: Cluster) -> None:
    cluster.engines["w1"] = Engine(error="cannot reach the engine")


def down(cluster: Cluster, **time: float) -> None:
    silent(cluster)
    cluster.nodes["w1"]["Status"] = {"State": "down", "Message": "heartbeat failure", "Addr": "10.0.0.2"}
    cluster.nodes["w1"]["UpdatedAt"] = ago(**(time or {"minutes": 10}))
    cluster.tasks[1] = cluster.task("m1", 2)


def swarmless(cluster: Cluster) -> None:
    cluster.has_swarm = False


def outside(cluster: Cluster) -> None:
    del cluster.nodes["w1"]
    cluster.engines["w1"] = Engine(info={"Swarm": {"LocalNodeState": "inactive"}})
    cluster.tasks[1] = cluster.task("m1", 2)


def leaderless(cluster: Cluster) -> None:
    cluster.nodes["m1"]["ManagerStatus"] = {"Reachability": "unreachable", "Addr": "10.0.0.1:2377"}


def short(cluster: Cluster) -> None:
    del cluster.tasks[1]


def failing(cluster: Cluster) -> None:
    cluster.tasks[1] = cluster.task("", 2, "pending", Err="no suitable node (1 node)")
    for number in range(3):
        failed = cluster.task("w1", 2, "failed", "shutdown", Err="task: non-zero exit (1)")
        cluster.tasks.append({**failed, "ID": f"f{number}"})


def paused(cluster: Cluster) -> None:
    cluster.service["UpdateStatus"] = {"State": "paused", "Message": "update paused due to failure"}


def deaf(cluster: Cluster) -> None:
    cluster.ports[1] = replace(cluster.ports[1], error="Connection refused")


def ended(cluster: Cluster) -> None:
    cluster.certificates[1] = Certificate("w1", NOW - timedelta(days=730), NOW - timedelta(days=1))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (silent, ["w1: cannot reach the engine"]),
        (down, ["w1: cannot reach the engine", "w1 is down, not ready (heartbeat failure), for 10 min or longer"]),
        (swarmless, ["no manager of the inventory answers for a swarm"]),
        (outside, ["w1: it is in no swarm"]),
        (leaderless, ["m1 is unreachable: 0 of 1 managers are reachable", "no manager leads"]),
        (short, ["shop_web 1/2 running"]),
        (
            failing,
            ["shop_web 1/2 running, 1 starting, 3 failed lately (its tasks keep failing): task: non-zero"],
        ),
        (paused, ["shop_web 2/2 running (its update is paused: update paused due to failure)"]),
        (deaf, ["port 4000 of shop_web does not answer through w1 (127.0.0.102): Connection refused"]),
        (ended, ["the certificate of w1 ended on 2026-11-22"]),
    ],
)
def test_problem_makes_the_cluster_unhealthy(cluster: Cluster, change: Change, expected: list[str]) -> None:
    change(cluster)
    found = problems(cluster.sight())
    assert len(found) == len(expected)
    assert [text[: len(start)] for text, start in zip(found, expected, strict=True)] == expected
    assert not document_of(cluster.sight())["healthy"]
    assert told(cluster.sight()).startswith(f"Cluster apiary is NOT healthy: {len(expected)} problem")


@pytest.mark.parametrize(
    ("days", "expected"), [(1, ""), (17, ""), (20, "90 days, may have ended"), (91, "90 days, has ended")]
)
def test_node_that_was_down_for_long_may_have_no_certificate_to_come_back_with(
    cluster: Cluster, days: int, expected: str
) -> None:
    down(cluster, days=days)
    found = problems(cluster.sight())[1]
    assert (expected in found) if expected else ("certificate" not in found)


def soon(cluster: Cluster) -> None:
    cluster.certificates[1] = Certificate("w1", NOW - timedelta(days=700), NOW + timedelta(days=29))


def slow(cluster: Cluster) -> None:
    cluster.machines["w1"] = Machine("20.10.24", "1.41", -300)


def updating(cluster: Cluster) -> None:
    cluster.service["UpdateStatus"] = {"State": "updating"}
    cluster.tasks[1] = cluster.task("w1", 2, "starting")


def put_aside(cluster: Cluster) -> None:
    cluster.nodes["w1"]["Spec"]["Labels"]["apiary.maintenance.availability"] = "active"


def behind_a_nat(cluster: Cluster) -> None:
    cluster.hosts["w1"] = replace(cluster.hosts["w1"], networks={"10.0.2.0/24": "NAT"})


def even(cluster: Cluster) -> None:
    cluster.hosts["w1"] = replace(cluster.hosts["w1"], role="manager")
    cluster.nodes["w1"]["Spec"]["Role"] = "manager"
    cluster.nodes["w1"]["ManagerStatus"] = {"Reachability": "reachable", "Addr": "10.0.0.2:2377"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (soon, "the certificate of w1 ends in 29 days"),
        (slow, "the clock of w1 is 5 min slow"),
        (updating, "shop_web: its update is under way"),
        (put_aside, "w1 was drained to be stopped or restarted: playbooks/start.yml gives it its work back"),
        (
            behind_a_nat,
            "the swarm takes the addresses of its networks from 10.0.0.0/8, which meets 10.0.2.0/24 (NAT of w1)",
        ),
        (even, "2 managers tolerate the loss of 0, as 1 would"),
    ],
)
def test_warning_makes_nothing_unhealthy(cluster: Cluster, change: Change, expected: str) -> None:
    change(cluster)
    (found,) = warnings(cluster.sight())
    assert found.startswith(expected)
    assert problems(cluster.sight()) == []


def unknown(cluster: Cluster) -> None:
    cluster.nodes["w7"] = cluster.node("w7", "worker", "10.0.0.7")


def paused_node(cluster: Cluster) -> None:
    cluster.nodes["w1"]["Spec"]["Availability"] = "pause"


def labelled(cluster: Cluster) -> None:
    cluster.hosts["w1"] = replace(cluster.hosts["w1"], labels={"disk": "ssd"})


def scaled(cluster: Cluster) -> None:
    cluster.service["Spec"]["Mode"]["Replicated"]["Replicas"] = 3
    cluster.tasks.append(cluster.task("w1", 3))


def missing(cluster: Cluster) -> None:
    cluster.service["Spec"]["Name"] = "shop_api"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (unknown, "w7 (worker, ready) is not in the inventory: playbooks/remove_node.yml -e node=w7 removes it"),
        (paused_node, "w1 has the availability pause; the inventory asks for none"),
        (labelled, "w1 lacks disk=ssd"),
        (scaled, "web: has 3 replicas, the template asks for 2"),
    ],
)
def test_difference_makes_nothing_unhealthy(cluster: Cluster, change: Change, expected: str) -> None:
    change(cluster)
    assert differences(cluster.sight()) == [expected]
    assert problems(cluster.sight()) == []


def test_stack_that_is_not_deployed_is_a_difference(cluster: Cluster) -> None:
    sight = cluster.sight()
    assert sight.seen.swarm
    empty = replace(
        sight, seen=replace(sight.seen, swarm=replace(sight.seen.swarm, services={})), services=[], ports=[]
    )
    assert differences(empty) == ["web: is not in the swarm; playbooks/stack.yml deploys it"]
    assert problems(empty) == []


@pytest.mark.parametrize("change", [lambda _: None, silent, down, swarmless, outside, failing, unknown])
def test_document_is_json_and_names_every_host(cluster: Cluster, change: Change) -> None:
    change(cluster)
    document = json.loads(json.dumps(document_of(cluster.sight())))
    assert {"m1", "w1"} <= {node["name"] for node in document["nodes"]} or not document["healthy"]
    assert len({node["name"] for node in document["nodes"]}) == len(document["nodes"])
    assert document["healthy"] == (document["problems"] == [])


def test_tasks_of_the_document_are_those_that_count(cluster: Cluster) -> None:
    old = cluster.task("w1", 2, "shutdown", "shutdown")
    failed = {**cluster.task("w1", 2, "failed", "shutdown", Err="boom"), "CreatedAt": ago(minutes=3)}
    long_ago = {**failed, "CreatedAt": ago(hours=3)}
    cluster.tasks += [old, failed, long_ago]
    (service,) = document_of(cluster.sight())["services"]
    assert [(task["state"], task["error"]) for task in service["tasks"]] == [
        *(("running", None), ("running", None), ("failed", "boom")),
    ]
    assert (service["running"], service["wanted"]) == (2, 2)


def test_no_token_stays_in_what_is_kept_of_the_swarm() -> None:
    assert "SWMTKN" not in json.dumps(clean_swarm({"ID": "x", "JoinTokens": {"Worker": "SWMTKN-1-x"}}))


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (timedelta(seconds=3), "3 s"),
        (timedelta(seconds=150), "2 min"),
        (timedelta(hours=30), "30 h"),
        (timedelta(days=-3), "3 days"),
    ],
)
def test_span_is_told_in_one_unit(time: timedelta, text: str) -> None:
    assert span(time) == text
