# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node takes its place in the swarm: against engines made of dictionaries that answer as Docker 20.10 does."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
from docker.errors import APIError

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import Refused
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.swarm import (
    Membership,
    Seen,
    Wanted,
    advice,
    contradiction,
    differ,
    ghosts,
    keeps_quorum,
    label_text,
    may_create,
    membership,
    merged_labels,
    node_addr,
    scrub,
    spec_changes,
    with_port,
)
from ansible_collections.apiary.swarm.plugins.module_utils.swarm_node import Engine as Connection
from ansible_collections.apiary.swarm.plugins.module_utils.swarm_node import SwarmNode

TOKENS = {"Worker": "SWMTKN-1-worker-secret", "Manager": "SWMTKN-1-manager-secret"}


def refusal(status: int, message: str) -> APIError:
    response = requests.Response()
    response.status_code = status
    return APIError(message, response=response, explanation=message)


@dataclass
class Swarm:
    """A cluster: what its managers share."""

    cluster_id: str
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    leader: bool = True
    joins: int = 0

    def add(self, hostname: str, addr: str, role: str, state: str = "ready", node_id: str = "") -> str:
        self.joins += 1
        node_id = node_id or f"{self.cluster_id}-{hostname}-{self.joins}"
        self.nodes[node_id] = {
            "ID": node_id,
            "Version": {"Index": 10},
            "Spec": {"Role": role, "Availability": "active", "Labels": {}},
            "Description": {"Hostname": hostname},
            "Status": {"State": state, "Addr": addr},
        }
        if role == "manager":
            reach = "reachable" if state == "ready" else "unreachable"
            self.nodes[node_id]["ManagerStatus"] = {"Reachability": reach, "Addr": f"{addr}:2377"}
        return node_id


class Engine:
    """One engine, with the methods of docker.APIClient that the code under test calls. ``asked`` is every call."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.addr = f"192.168.99.10{number}"
        self.endpoint = {"docker_host": f"tcp://127.0.99.10{number}:2376"}
        self.swarm: Swarm | None = None
        self.node_id = ""
        self.state = "inactive"
        self.error = ""
        self.reachable = True
        self.asked: list[str] = []
        self.join_fails: APIError | None = None
        self.conflicts = 0
        self.spec: dict[str, Any] | None = None
        self.pools: tuple[list[str] | None, int | None] = (None, None)
        self.new_swarm_id = f"cluster-of-{name}"

    def enter(self, swarm: Swarm, role: str) -> Engine:
        self.swarm, self.state = swarm, "active"
        self.node_id = swarm.add(self.name, self.addr, role)
        return self

    @property
    def control(self) -> bool:
        node = self.swarm.nodes.get(self.node_id) if self.swarm else None
        return self.state == "active" and bool(node) and node["Spec"]["Role"] == "manager"  # type: ignore[index]

    def shared(self) -> Swarm:
        if not self.control or self.swarm is None:
            raise refusal(503, "This node is not a swarm manager.")
        if not self.swarm.leader:
            raise refusal(503, "rpc error: code = Unknown desc = The swarm does not have a leader.")
        return self.swarm

    def info(self) -> dict[str, Any]:
        self.asked.append("info")
        managers = [node for node in self.swarm.nodes.values() if "ManagerStatus" in node] if self.swarm else []
        return {
            "Name": self.name,
            "Swarm": {
                "NodeID": self.node_id,
                "NodeAddr": self.addr if self.node_id else "",
                "LocalNodeState": self.state,
                "ControlAvailable": self.control,
                "Error": self.error,
                "RemoteManagers": [{"NodeID": n["ID"], "Addr": n["ManagerStatus"]["Addr"]} for n in managers] or None,
            },
        }

    def inspect_swarm(self) -> dict[str, Any]:
        self.asked.append("swarm")
        pools = {"DefaultAddrPool": ["10.0.0.0/8"], "SubnetSize": 24}
        return {"ID": self.shared().cluster_id, "JoinTokens": TOKENS, **pools}

    def nodes(self, filters: Mapping[str, str]) -> list[dict[str, Any]]:
        self.asked.append("nodes")
        nodes = copy.deepcopy(list(self.shared().nodes.values()))
        if "role" in filters:
            return [node for node in nodes if node["Spec"]["Role"] == filters["role"]]
        return [node for node in nodes if node["Description"]["Hostname"].startswith(filters["name"])]

    def inspect_node(self, node_id: str) -> dict[str, Any]:
        self.asked.append("node")
        if node_id not in self.shared().nodes:
            raise refusal(404, f"node {node_id} not found")
        return copy.deepcopy(self.shared().nodes[node_id])

    def update_node(self, node_id: str, version: int, spec: dict[str, Any]) -> bool:
        self.asked.append("update")
        node = self.shared().nodes[node_id]
        if self.conflicts:
            self.conflicts -= 1
            node["Version"]["Index"] += 1
            node["Spec"]["Labels"]["somebody"] = "else"
        if version != node["Version"]["Index"]:
            raise refusal(500, "rpc error: code = Unknown desc = update out of sequence")
        node["Spec"] = copy.deepcopy(spec)
        if spec["Role"] == "worker":
            node.pop("ManagerStatus", None)
        return True

    def remove_node(self, node_id: str) -> bool:
        self.asked.append("remove")
        node = self.shared().nodes[node_id]
        if node["Status"]["State"] != "down" or node["Spec"]["Role"] == "manager":
            raise refusal(400, f"node {node_id} is not down and can't be removed")
        del self.shared().nodes[node_id]
        return True

    def init_swarm(
        self,
        swarm_spec: dict[str, Any] | None = None,
        default_addr_pool: list[str] | None = None,
        subnet_size: int | None = None,
        **address: Any,
    ) -> str:
        self.asked.append("init")
        self.pools = default_addr_pool, subnet_size
        self.spec = swarm_spec
        self.enter(Swarm(self.new_swarm_id), "manager")
        return self.node_id

    def join_swarm(self, remote_addrs: list[str], join_token: str, **address: Any) -> bool:
        self.asked.append("join")
        if self.join_fails:
            raise self.join_fails
        role = {token: role.lower() for role, token in TOKENS.items()}[join_token]
        self.enter(self.cluster.at(remote_addrs[0]), role)
        return True

    cluster: Cluster

    def writes(self) -> list[str]:
        return [call for call in self.asked if call in ("init", "join", "update", "remove")]


class Cluster:
    """Engines that reach each other, a clock that runs only while somebody sleeps, and events at its times."""

    def __init__(self, *names: str) -> None:
        self.engines = {name: Engine(name, number) for number, name in enumerate(names, 1)}
        for engine in self.engines.values():
            engine.cluster = self
        self.time = 0.0
        self.events: list[tuple[float, Callable[[], None]]] = []
        self.connections: list[str] = []

    def __getitem__(self, name: str) -> Engine:
        return self.engines[name]

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        for event in [event for event in self.events if event[0] <= self.time]:
            self.events.remove(event)
            event[1]()

    def at(self, address: str) -> Swarm:
        swarm = next(engine.swarm for engine in self.engines.values() if f"{engine.addr}:2377" == address)
        assert swarm
        return swarm

    @contextmanager
    def connect(self, endpoint: Mapping[str, Any], timeout_seconds: int = 60) -> Iterator[Engine]:
        engine = next(engine for engine in self.engines.values() if engine.endpoint == endpoint)
        self.connections.append(engine.name)
        if not engine.reachable:
            raise ApiaryError(f"cannot reach the engine at {endpoint['docker_host']}")
        yield engine

    def run(
        self, name: str, role: str, managers: tuple[str, ...] = ("m1",), check: bool = False, **options: Any
    ) -> Any:
        """Run swarm_node for *name*; the result, or the ApiaryError, must not contain a token."""
        wanted = Wanted(
            name=name,
            docker=self[name].endpoint,
            role=role,
            advertise_address=self[name].addr,
            managers=[{"name": manager, "docker": self[manager].endpoint} for manager in managers],
            **options,
        )
        try:
            result = SwarmNode(wanted, self.connect, check_mode=check, clock=self).ensure()
        except ApiaryError as error:
            assert "SWMTKN-1" not in str(error)
            raise
        assert "SWMTKN" not in json.dumps(result)
        return result

    def writes(self) -> dict[str, list[str]]:
        return {name: engine.writes() for name, engine in self.engines.items() if engine.writes()}


@pytest.fixture
def pair() -> Cluster:
    """A manager m1 and a worker w1 in one swarm."""
    cluster = Cluster("m1", "w1")
    swarm = Swarm("one")
    cluster["m1"].enter(swarm, "manager")
    cluster["w1"].enter(swarm, "worker")
    return cluster


@pytest.fixture
def trio() -> Cluster:
    """Three managers of one swarm."""
    cluster = Cluster("m1", "m2", "m3")
    swarm = Swarm("one")
    for engine in cluster.engines.values():
        engine.enter(swarm, "manager")
    return cluster


THREE = ("m1", "m2", "m3")


def spec_of(engine: Engine) -> dict[str, Any]:
    assert engine.swarm
    spec: dict[str, Any] = engine.swarm.nodes[engine.node_id]["Spec"]
    return spec


# A node enters


def test_first_manager_creates_and_worker_joins_then_nothing_changes() -> None:
    cluster = Cluster("m1", "w1")
    assert cluster.run("m1", "manager", create=True)["actions"] == ["create the swarm"]
    result = cluster.run("w1", "worker")
    assert result["actions"] == ["join as worker"]
    assert (result["role"], result["cluster_id"], result["addr"]) == ("worker", "cluster-of-m1", "192.168.99.102")
    assert result["before"] == {"membership": "none"}
    for name, role in (("m1", "manager"), ("w1", "worker")):
        again = cluster.run(name, role, create=name == "m1")
        assert not again["changed"]
        assert again["before"] == again["after"]


NAT = {"m1": {"10.0.2.0/24": "NAT"}, "w1": {"10.0.2.0/24": "NAT"}}


@pytest.mark.parametrize(
    ("options", "given", "where"),
    [
        ({}, (None, None), ""),
        ({"networks": {"m1": {"192.168.99.0/24": "network"}}}, (None, None), ""),
        ({"networks": NAT}, (["10.128.0.0/9"], 24), " with networks of /24 from 10.128.0.0/9"),
        (
            {"networks": NAT, "address_pools": ["10.64.0.0/16", "10.80.0.0/16"], "address_pool_prefix": "26"},
            (["10.64.0.0/16", "10.80.0.0/16"], 26),
            " with networks of /26 from 10.64.0.0/16, 10.80.0.0/16",
        ),
    ],
)
def test_swarm_is_created_with_pools_that_meet_nothing_as_foretold(
    options: dict[str, Any], given: tuple[Any, Any], where: str
) -> None:
    for reachable in (False, True):
        cluster = Cluster("m1", "w1")
        cluster["m1"].reachable = reachable
        foretold = cluster.run("m1", "manager", create=True, check=True, **options)
        assert foretold["actions"] == [f"create the swarm{where}"]
        assert foretold["after"].get("address_pools") == given[0]
    done = cluster.run("m1", "manager", create=True, **options)
    assert (done["actions"], cluster["m1"].pools) == (foretold["actions"], given)
    assert done["after"].get("address_pools") == given[0]


def test_first_check_run_of_several_managers_foretells_the_pools_too() -> None:
    cluster = Cluster("m1", "m2", "m3")
    for engine in cluster.engines.values():
        engine.reachable = False
    result = cluster.run("m1", "manager", ("m1", "m2", "m3"), check=True, create=True, networks=NAT)
    assert result["actions"] == ["create the swarm with networks of /24 from 10.128.0.0/9, or join it where one exists"]


def test_pools_that_meet_something_make_no_swarm() -> None:
    cluster = Cluster("m1")
    with pytest.raises(ApiaryError, match=r"swarm_address_pools has 10.0.0.0/16, which meets 10.0.2.0/24 \(NAT of m1"):
        cluster.run("m1", "manager", create=True, networks=NAT, address_pools=["10.0.0.0/16"])
    assert cluster.writes() == {}


@pytest.mark.parametrize(("pools", "is_said"), [("auto", False), (["10.0.0.0/8"], False), (["10.64.0.0/16"], True)])
def test_swarm_that_is_there_keeps_its_pools_whatever_they_meet(pair: Cluster, pools: Any, is_said: bool) -> None:
    result = pair.run("m1", "manager", create=True, networks=NAT, address_pools=pools)
    assert not result["changed"]
    assert bool(result["warnings"]) is is_said
    assert result["before"] == result["after"]


def test_unchanged_worker_costs_one_info_and_two_small_requests(pair: Cluster) -> None:
    assert not pair.run("w1", "worker")["changed"]
    assert pair.connections == ["w1", "m1"]
    assert pair["w1"].asked == ["info"]
    assert pair["m1"].asked == ["swarm", "nodes"]


def test_unchanged_only_manager_is_one_connection(pair: Cluster) -> None:
    assert not pair.run("m1", "manager", create=True)["changed"]
    assert pair.connections == ["m1"]


def test_primary_that_lost_its_disk_joins_the_swarm_of_the_others(trio: Cluster) -> None:
    swarm = trio["m2"].swarm
    assert swarm
    old = trio["m1"].node_id
    swarm.nodes[old]["Status"]["State"] = "down"
    swarm.nodes[old]["ManagerStatus"]["Reachability"] = "unreachable"
    trio["m1"].state, trio["m1"].swarm, trio["m1"].node_id = "inactive", None, ""
    result = trio.run("m1", "manager", THREE, create=True)
    assert result["actions"] == ["join as manager", f"remove the ghost {old}"]
    assert result["cluster_id"] == "one"
    assert len(swarm.nodes) == 3


@pytest.mark.parametrize("first", ["unreachable", "inactive"])
def test_join_goes_through_the_first_manager_that_answers(first: str) -> None:
    cluster = Cluster("m1", "m2", "w1")
    cluster["m2"].enter(Swarm("one"), "manager")
    cluster["m1"].reachable = first != "unreachable"
    assert cluster.run("w1", "worker", ("m1", "m2"))["cluster_id"] == "one"


def test_join_that_the_engine_continues_in_the_background_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("m1", "w1")
    cluster["m1"].enter(Swarm("one"), "manager")
    worker, swarm = cluster["w1"], cluster["m1"].swarm
    assert swarm

    def give_up(**_arguments: Any) -> bool:
        worker.state = "pending"
        raise refusal(503, "Timeout was reached before node joined. The attempt will continue in the background.")

    def arrive() -> None:
        worker.enter(swarm, "worker")

    monkeypatch.setattr(worker, "join_swarm", give_up)
    cluster.events.append((3.0, arrive))
    assert cluster.run("w1", "worker")["actions"] == ["join as worker"]


def test_refused_join_names_the_ports_and_hides_the_token() -> None:
    cluster = Cluster("m1", "w1")
    cluster["m1"].enter(Swarm("one"), "manager")
    cluster["w1"].join_fails = refusal(503, f"rpc error: invalid join token {TOKENS['Worker']}")
    with pytest.raises(ApiaryError, match=r"(?s)w1 .*SWMTKN-\(hidden\).*2377/tcp, 7946/tcp and udp, 4789/udp"):
        cluster.run("w1", "worker")


# A swarm is created only where it would be the only one


@pytest.mark.parametrize("state", ["unreachable", "pending", "locked", "error", "worker", "leaderless"])
def test_no_swarm_is_created_while_another_manager_may_hold_one(state: str) -> None:
    cluster = Cluster("m1", "m2")
    other = cluster["m2"]
    if state == "unreachable":
        other.reachable = False
    elif state == "worker":
        other.enter(Swarm("elsewhere"), "worker")
    elif state == "leaderless":
        other.enter(Swarm("elsewhere", leader=False), "manager")
    else:
        other.state = state
    with pytest.raises(ApiaryError, match=r"m1 will not create a swarm .*m2 is "):
        cluster.run("m1", "manager", ("m1", "m2"), create=True, wait_seconds=5)
    assert cluster.writes() == {}


def test_swarm_is_created_when_the_other_managers_are_in_none() -> None:
    cluster = Cluster("m1", "m2")
    assert cluster.run("m1", "manager", ("m1", "m2"), create=True)["actions"] == ["create the swarm"]


@pytest.mark.parametrize(("name", "spec"), [("hive", {"Labels": {"apiary.cluster": "hive"}}), ("", None)])
def test_swarm_that_is_created_carries_the_clusters_name(name: str, spec: dict[str, Any] | None) -> None:
    cluster = Cluster("m1")
    cluster.run("m1", "manager", create=True, cluster=name)
    assert cluster["m1"].spec == spec


@pytest.mark.parametrize("reachable", [True, False])
def test_join_without_a_swarm_says_what_the_managers_are(reachable: bool) -> None:
    cluster = Cluster("m1", "w1")
    cluster["m1"].reachable = reachable
    with pytest.raises(
        ApiaryError, match=f"w1 cannot join.*m1 is {'in no swarm' if reachable else 'unreachable'}.*site.yml"
    ):
        cluster.run("w1", "worker")
    assert cluster.writes() == {}


def test_join_to_a_swarm_without_quorum_tells_how_to_get_it_back() -> None:
    cluster = Cluster("m1", "w1")
    cluster["m1"].enter(Swarm("one", leader=False), "manager")
    with pytest.raises(
        ApiaryError,
        match=r"m1 is without a leader.*host tcp://127.0.99.101:2376 swarm init --force-new-cluster --advertise-addr",
    ):
        cluster.run("w1", "worker", wait_seconds=5)


# Another swarm


def test_worker_of_another_swarm_is_refused(pair: Cluster) -> None:
    other = Swarm("other")
    other.add("m9", "10.9.9.9", "manager")
    pair["w1"].enter(other, "worker")
    with pytest.raises(ApiaryError) as caught:
        pair.run("w1", "worker")
    for fact in (
        "w1",
        "swarm one of m1",
        pair["w1"].node_id,
        "10.9.9.9:2377",
        "swarm leave",
        "tcp://127.0.99.102:2376",
    ):
        assert fact in str(caught.value)
    assert pair.writes() == {}


@pytest.mark.parametrize("role", ["manager", "worker"])
@pytest.mark.parametrize("check", [True, False])
def test_manager_of_another_swarm_is_refused_with_both_cluster_ids(pair: Cluster, role: str, check: bool) -> None:
    pair["w1"].enter(Swarm("other"), "manager")
    with pytest.raises(ApiaryError, match="manages the swarm other, but m1 manages another one, one"):
        pair.run("w1", role, ("m1", "w1"), check=check)
    assert pair.writes() == {}


def test_pending_worker_unknown_to_the_manager_is_refused_at_once(pair: Cluster) -> None:
    worker = pair["w1"].enter(Swarm("other"), "worker")
    worker.state = "pending"
    with pytest.raises(ApiaryError, match="w1 is not in the swarm one of m1"):
        pair.run("w1", "worker")
    assert pair.time == 0


@pytest.mark.parametrize("state", ["unreachable", "inactive"])
def test_worker_whose_swarm_nobody_can_prove_is_refused(pair: Cluster, state: str) -> None:
    if state == "unreachable":
        pair["m1"].reachable = False
    else:
        pair["m1"].state = "inactive"
    with pytest.raises(ApiaryError, match=f"{pair['w1'].node_id}.*no manager of the inventory can say"):
        pair.run("w1", "worker")
    assert pair.writes() == {}


# States of the engine


def test_pending_node_is_waited_for(pair: Cluster) -> None:
    pair["w1"].state = "pending"
    pair.events.append((4.0, lambda: setattr(pair["w1"], "state", "active")))
    assert not pair.run("w1", "worker")["changed"]
    assert 4 <= pair.time < 8


def test_pending_node_is_waited_for_within_bounds(pair: Cluster) -> None:
    pair["w1"].state = "pending"
    pair["m1"].reachable = False
    with pytest.raises(ApiaryError, match=r"w1: waited 20 s .*192.168.99.101:2377"):
        pair.run("w1", "worker", wait_seconds=20)
    assert pair.time < 25


@pytest.mark.parametrize(
    ("state", "words"), [("error", "certificate .*SWMKEY-.hidden.*swarm leave --force"), ("locked", "swarm unlock")]
)
def test_state_that_only_a_person_can_end(pair: Cluster, state: str, words: str) -> None:
    pair["w1"].state = state
    pair["w1"].error = "certificate expired, key SWMKEY-1-secret"
    with pytest.raises(ApiaryError, match=words) as caught:
        pair.run("w1", "worker")
    assert "secret" not in str(caught.value)
    assert pair.writes() == {}


def test_lines_that_are_to_be_pasted_have_the_keys(pair: Cluster) -> None:
    keys = {"ca_path": "/keys/ca.pem", "client_cert": "/keys/cert.pem", "client_key": "/keys/key.pem"}
    pair["w1"].endpoint = {**pair["w1"].endpoint, "validate_certs": "true", **keys}
    pair["w1"].state = "locked"
    with pytest.raises(ApiaryError) as caught:
        pair.run("w1", "worker")
    line = "--tlsverify --tlscacert /keys/ca.pem --tlscert /keys/cert.pem --tlskey /keys/key.pem swarm unlock"
    assert f"docker --host tcp://127.0.99.102:2376 {line}" in str(caught.value)


def test_nobody_joins_or_creates_a_swarm_while_a_manager_waits_for_the_unlock_key(pair: Cluster) -> None:
    pair["m1"].state = "locked"
    pair["w1"].state, pair["w1"].swarm, pair["w1"].node_id = "inactive", None, ""
    with pytest.raises(ApiaryError, match=r"m1 holds a locked swarm.*127.0.99.101:2376 swarm unlock"):
        pair.run("w1", "worker")
    assert pair.time < 5


def test_manager_waits_for_an_election(trio: Cluster) -> None:
    swarm = trio["m1"].swarm
    assert swarm
    swarm.leader = False
    trio.events.append((6.0, lambda: setattr(swarm, "leader", True)))
    assert not trio.run("m1", "manager", THREE)["changed"]


def test_manager_without_quorum_says_so(trio: Cluster) -> None:
    assert trio["m1"].swarm
    trio["m1"].swarm.leader = False
    with pytest.raises(ApiaryError, match=r"m1: waited 120 s until its swarm has a leader.*--force-new-cluster"):
        trio.run("m1", "manager", THREE)


def test_worker_waits_for_its_manager_to_start(pair: Cluster) -> None:
    pair["m1"].state = "pending"
    pair.events.append((5.0, lambda: setattr(pair["m1"], "state", "active")))
    assert not pair.run("w1", "worker")["changed"]


def test_member_that_is_down_is_waited_for_until_ready(pair: Cluster) -> None:
    assert pair["m1"].swarm
    status = pair["m1"].swarm.nodes[pair["w1"].node_id]["Status"]
    status["State"] = "down"
    pair.events.append((2.0, lambda: status.update(State="ready")))
    assert not pair.run("w1", "worker")["changed"]
    assert pair.time >= 2


# Role


def test_promote_and_demote(pair: Cluster) -> None:
    assert pair.run("w1", "manager", ("m1", "w1"))["actions"] == ["promote to manager"]
    assert pair["w1"].control
    assert pair.run("w1", "worker")["actions"] == ["demote to worker"]
    assert not pair["w1"].control
    assert pair.writes() == {"m1": ["update", "update"]}


def test_promotion_cut_short_is_waited_for_by_the_next_run(pair: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.run("w1", "manager", ("m1", "w1"))
    monkeypatch.setattr(Engine, "control", property(lambda engine: engine.name == "m1" or pair.time >= 3))
    assert not pair.run("w1", "manager", ("m1", "w1"))["changed"]
    assert pair.time >= 3


@pytest.mark.parametrize("check", [True, False])
def test_demotion_that_would_lose_the_quorum_is_refused(trio: Cluster, check: bool) -> None:
    assert trio["m1"].swarm
    trio["m1"].swarm.nodes[trio["m2"].node_id]["ManagerStatus"]["Reachability"] = "unreachable"
    trio["m2"].reachable = False
    with pytest.raises(ApiaryError, match="m3 will not be demoted"):
        trio.run("m3", "worker", ("m1", "m2"), check=check)
    assert trio.writes() == {}


def test_last_manager_is_not_demoted() -> None:
    cluster = Cluster("m1", "m2")
    cluster["m1"].enter(Swarm("one"), "manager")
    with pytest.raises(ApiaryError, match=r"m1 cannot be demoted.*m2 is in no swarm"):
        cluster.run("m1", "worker", ("m2",))
    assert cluster.writes() == {}


# Labels and availability


def test_labels_and_availability_are_written_once_and_only_when_they_differ(pair: Cluster) -> None:
    options: dict[str, Any] = {"labels": {"disk": "ssd", "zone": 2, "fast": True}, "availability": "drain"}
    spec_of(pair["w1"])["Labels"]["other"] = "kept"
    first = pair.run("w1", "worker", **options)
    assert first["actions"] == [
        "set availability drain",
        "set label disk=ssd",
        "set label fast=true",
        "set label zone=2",
    ]
    assert spec_of(pair["w1"]) == {
        "Role": "worker",
        "Availability": "drain",
        "Labels": {"disk": "ssd", "zone": "2", "fast": "true", "other": "kept"},
    }
    assert not pair.run("w1", "worker", **options)["changed"]
    assert pair.writes() == {"m1": ["update"]}


def test_drained_node_stays_drained_unless_told_otherwise(pair: Cluster) -> None:
    spec_of(pair["w1"])["Availability"] = "drain"
    assert not pair.run("w1", "worker")["changed"]
    assert pair.run("w1", "worker", availability="active")["actions"] == ["set availability active"]


def test_update_starts_again_from_what_somebody_else_wrote(pair: Cluster) -> None:
    pair["m1"].conflicts = 2
    pair.run("w1", "worker", labels={"disk": "ssd"})
    assert spec_of(pair["w1"])["Labels"] == {"disk": "ssd", "somebody": "else"}


def test_update_gives_up_when_it_never_gets_through(pair: Cluster) -> None:
    pair["m1"].conflicts = 99
    with pytest.raises(ApiaryError, match="out of sequence"):
        pair.run("w1", "worker", labels={"disk": "ssd"})


def test_bad_label_is_refused_before_anything_is_done() -> None:
    cluster = Cluster("m1")
    with pytest.raises(ApiaryError, match="label disk has the value"):
        cluster.run("m1", "manager", create=True, labels={"disk": ["ssd"]})
    assert cluster.connections == []


# Ghosts


def test_ghost_is_removed_once_the_swarm_notices_that_it_is_down(pair: Cluster) -> None:
    swarm = pair["m1"].swarm
    assert swarm
    ghost = pair["w1"].node_id
    pair["w1"].state, pair["w1"].swarm, pair["w1"].node_id = "inactive", None, ""
    pair.events.append((15.0, lambda: swarm.nodes[ghost]["Status"].update(State="down")))
    assert pair.run("w1", "worker")["actions"] == ["join as worker", f"remove the ghost {ghost}"]
    assert ghost not in swarm.nodes
    assert not pair.run("w1", "worker")["changed"]


def test_ghost_left_by_an_interrupted_run_is_removed_by_the_next(pair: Cluster) -> None:
    assert pair["m1"].swarm
    ghost = pair["m1"].swarm.add("w1", pair["w1"].addr, "worker", "down")
    foretold = pair.run("w1", "worker", check=True)
    assert ghost in pair["m1"].swarm.nodes
    assert pair.run("w1", "worker")["actions"] == foretold["actions"] == [f"remove the ghost {ghost}"]


def test_ghost_manager_is_kept_while_the_quorum_hangs_on_it() -> None:
    cluster = Cluster("m1")
    swarm = Swarm("one")
    cluster["m1"].enter(swarm, "manager")
    swarm.add("m2", "192.168.99.102", "manager", "down")
    ghost = swarm.add("m1", cluster["m1"].addr, "manager", "down")
    with pytest.raises(ApiaryError, match=f"ghost {ghost} of m1 is a manager"):
        cluster.run("m1", "manager")
    assert cluster.writes() == {}


def test_namesake_elsewhere_is_not_removed_but_named(pair: Cluster) -> None:
    assert pair["m1"].swarm
    namesake = pair["m1"].swarm.add("w1", "10.0.0.77", "worker", "down")
    result = pair.run("w1", "worker")
    assert not result["changed"]
    assert namesake in result["warnings"][0]


def node(node_id: str, hostname: str, addr: str, state: str) -> dict[str, Any]:
    return {"ID": node_id, "Description": {"Hostname": hostname}, "Status": {"State": state, "Addr": addr}}


@pytest.mark.parametrize(
    ("others", "joined", "removed", "doubtful"),
    [
        pytest.param([], True, [], [], id="alone"),
        pytest.param([node("g", "w1", "10.0.0.1", "down")], False, ["g"], [], id="same place"),
        pytest.param([node("g", "w1", "10.0.0.1", "ready")], False, ["g"], [], id="same place, not noticed yet"),
        pytest.param([node("g", "w1", "10.0.0.2", "down")], False, [], ["g"], id="elsewhere"),
        pytest.param([node("g", "w1", "10.0.0.2", "down")], True, ["g"], [], id="elsewhere, joined now"),
        pytest.param([node("g", "w1", "10.0.0.2", "ready")], True, [], [], id="live namesake"),
        pytest.param(
            [node("g", "w1", "10.0.0.2", "down"), node("h", "w1", "10.0.0.3", "ready")], True, [], ["g"], id="clones"
        ),
        pytest.param([node("g", "w10", "10.0.0.1", "down")], True, [], [], id="name is a prefix"),
    ],
)
def test_ghosts(others: list[dict[str, Any]], joined: bool, removed: list[str], doubtful: list[str]) -> None:
    me = Membership("active", "me", addr="10.0.0.1", hostname="w1")
    found = ghosts([node("me", "w1", "10.0.0.1", "ready"), *others], me, joined)
    assert ([n["ID"] for n in found[0]], [n["ID"] for n in found[1]]) == (removed, doubtful)


# Check mode


@pytest.mark.parametrize("reachable", [True, False])
@pytest.mark.parametrize(
    ("name", "role", "managers", "create", "action"),
    [
        ("m1", "manager", ("m1",), True, "create the swarm"),
        ("m2", "manager", ("m1", "m2"), False, "join as manager"),
        ("w1", "worker", ("m1",), False, "join as worker"),
    ],
)
def test_first_check_run_foretells(
    reachable: bool, name: str, role: str, managers: tuple[str, ...], create: bool, action: str
) -> None:
    cluster = Cluster("m1", "m2", "w1")
    for engine in cluster.engines.values():
        engine.reachable = reachable
    result = cluster.run(name, role, managers, create=create, check=True, labels={"disk": "ssd"}, availability="drain")
    assert result["changed"]
    assert result["actions"] == [action, "set availability drain", "set label disk=ssd"]
    assert action in result["msg"]
    assert cluster.writes() == {}


def test_check_run_foretells_what_the_run_does(pair: Cluster) -> None:
    options: dict[str, Any] = {"labels": {"disk": "ssd"}, "availability": "pause", "managers": ("m1", "w1")}
    foretold = pair.run("w1", "manager", check=True, **options)
    assert pair.writes() == {}
    done = pair.run("w1", "manager", **options)
    assert (foretold["actions"], foretold["before"], foretold["after"]) == (
        done["actions"],
        done["before"],
        done["after"],
    )
    assert not pair.run("w1", "manager", check=True, **options)["changed"]


def test_check_run_of_a_new_worker_joins_nothing() -> None:
    cluster = Cluster("m1", "w1")
    cluster["m1"].enter(Swarm("one"), "manager")
    result = cluster.run("w1", "worker", check=True)
    assert (result["changed"], result["actions"]) == (True, ["join as worker"])
    assert cluster.writes() == {}


def test_unreachable_node_fails_outside_check_mode(pair: Cluster) -> None:
    pair["w1"].reachable = False
    with pytest.raises(ApiaryError, match="cannot reach"):
        pair.run("w1", "worker")


# Tables


def test_scrub() -> None:
    assert scrub("bad SWMTKN-1-abc-def, and SWMKEY-1-xyz") == "bad SWMTKN-(hidden) and SWMKEY-(hidden)"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.1", "10.0.0.1:2377"),
        ("10.0.0.1:2400", "10.0.0.1:2400"),
        ("eth1", "eth1:2377"),
        ("fd00::1", "[fd00::1]:2377"),
        ("[fd00::1]", "[fd00::1]:2377"),
        ("[fd00::1]:2400", "[fd00::1]:2400"),
    ],
)
def test_with_port(address: str, expected: str) -> None:
    assert with_port(address) == expected


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), (2, "2"), (1.5, "1.5"), (True, "true"), (False, "false"), (None, "")]
)
def test_label_text(value: Any, text: str) -> None:
    assert label_text("x", value) == text


@pytest.mark.parametrize(("purge", "expected"), [(False, {"a": "1", "b": "2"}), (True, {"b": "2"})])
def test_merged_labels(purge: bool, expected: dict[str, str]) -> None:
    assert merged_labels({"a": "1", "b": "0"}, {"b": 2}, purge) == expected


def test_purged_labels_are_actions_too() -> None:
    wanted = Wanted("w1", {"docker_host": "x"}, "worker", "10.0.0.1", labels={}, purge_labels=True)
    spec = {"Role": "worker", "Availability": "active", "Labels": {"old": "1"}, "Name": "kept"}
    target, actions = spec_changes(spec, wanted)
    assert actions == ["remove label old"]
    assert target == {**spec, "Labels": {}}
    assert spec["Labels"] == {"old": "1"}


@pytest.mark.parametrize(
    ("reach", "leaving", "keeps"),
    [
        ("r", 0, False),
        ("rr", 0, True),
        ("ru", 0, False),
        ("ru", 1, True),
        ("rrr", 0, True),
        ("rru", 0, False),
        ("rru", 2, True),
        ("rrruu", 0, False),
        ("rrruu", 4, True),
    ],
)
def test_keeps_quorum(reach: str, leaving: int, keeps: bool) -> None:
    words = {"r": "reachable", "u": "unreachable"}
    managers = [{"ID": str(n), "ManagerStatus": {"Reachability": words[mark]}} for n, mark in enumerate(reach)]
    assert keeps_quorum(managers, str(leaving)) is keeps


@pytest.mark.parametrize(
    ("states", "allowed"), [([], True), (["inactive"], True), (["inactive", "unreachable"], False), (["active"], False)]
)
def test_may_create(states: list[str], allowed: bool) -> None:
    assert may_create([Seen(state, state) for state in states]) is allowed


@pytest.mark.parametrize(
    ("one", "other", "result"),
    [
        ("10.0.0.1", "10.0.0.1", False),
        ("10.0.0.1", "10.0.0.2", True),
        ("eth1", "10.0.0.2", False),
        ("", "10.0.0.2", False),
    ],
)
def test_differ(one: str, other: str, result: bool) -> None:
    assert differ(one, other) is result


def test_node_addr_of_a_manager_that_calls_itself_nowhere() -> None:
    assert node_addr({"Status": {"Addr": "0.0.0.0"}, "ManagerStatus": {"Addr": "10.0.0.1:2377"}}) == "10.0.0.1"  # noqa: S104


def test_own_address_comes_first_among_the_managers() -> None:
    swarm = {"NodeID": "b", "RemoteManagers": [{"NodeID": "a", "Addr": "1:2377"}, {"NodeID": "b", "Addr": "2:2377"}]}
    assert membership({"Swarm": swarm}).remote_managers == ("2:2377", "1:2377")


def test_engine_without_swarm_mode_is_inactive() -> None:
    assert membership({}).state == "inactive"


@pytest.mark.parametrize(
    ("count", "name", "warned"), [(1, "m1", False), (2, "m1", True), (2, "m2", False), (3, "m1", False)]
)
def test_even_number_of_managers_is_said_once(count: int, name: str, warned: bool) -> None:
    managers = [{"name": f"m{n}", "docker": {"docker_host": str(n)}} for n in range(1, count + 1)]
    wanted = Wanted(name, {"docker_host": "x"}, "manager", "10.0.0.1", managers=managers)
    assert bool(advice(wanted)) is warned


@pytest.mark.parametrize(
    ("name", "role", "create", "managers", "expected"),
    [
        ("m1", "manager", True, ["m1", "m2", "m3"], ""),
        ("m2", "manager", False, ["m1", "m2", "m3"], ""),
        ("m1", "manager", True, [], ""),
        ("w1", "worker", False, ["m1"], ""),
        ("m1", "manager", True, ["m1", "m2", "m1"], "name a manager, or an engine, twice: m1 at tcp://m1, m2"),
        ("m2", "manager", True, ["m1", "m2"], "m2 is to create the swarm, but the first of the managers is m1"),
        ("w1", "worker", False, [], "w1 has nobody to join"),
        ("m1", "worker", False, ["m1"], "m1 has the engine of a manager (tcp://m1)"),
    ],
)
def test_what_contradicts_itself_is_refused(
    name: str, role: str, create: bool, managers: list[str], expected: str
) -> None:
    listed = [{"name": manager, "docker": {"docker_host": f"tcp://{manager}"}} for manager in managers]
    wanted = Wanted(name, {"docker_host": f"tcp://{name}"}, role, "192.168.99.9", managers=listed, create=create)
    assert expected in contradiction(wanted)
    assert bool(contradiction(wanted)) == bool(expected)


def test_pools_that_cannot_be_are_refused_whether_or_not_there_is_a_swarm() -> None:
    wanted = Wanted("m1", {"docker_host": "x"}, "manager", "192.168.99.9", address_pools=["10.0.0/8"])
    assert "swarm_address_pools has '10.0.0/8', and that is no network" in contradiction(wanted)


def test_address_that_changed_since_the_join_is_said(pair: Cluster) -> None:
    pair["w1"].addr = "192.168.99.150"
    pair["w1"].enter(pair["m1"].swarm or Swarm("never"), "worker")
    wanted = Wanted(
        "w1",
        pair["w1"].endpoint,
        "worker",
        "192.168.99.102",
        managers=[{"name": "m1", "docker": pair["m1"].endpoint}],
    )
    result = SwarmNode(wanted, pair.connect, clock=pair, check_mode=True).ensure()
    assert "known to its swarm as 192.168.99.150, not as 192.168.99.102" in " ".join(result["warnings"])


@pytest.mark.parametrize(
    ("wanted", "has", "given"), [("keep", "drain", "pause"), ("active", "drain", "active"), ("drain", "drain", "drain")]
)
def test_what_an_interrupted_restart_has_drained_is_given_back(
    pair: Cluster, wanted: str, has: str, given: str
) -> None:
    spec = spec_of(pair["w1"])
    spec["Availability"], spec["Labels"] = has, {"apiary.maintenance.availability": "pause", "disk": "ssd"}
    result = pair.run("w1", "worker", availability=wanted)
    assert result["actions"] == [f"set availability {given}"]
    assert spec_of(pair["w1"])["Availability"] == given
    assert spec_of(pair["w1"])["Labels"] == {"disk": "ssd"}
    assert not pair.run("w1", "worker", availability=wanted)["changed"]


def test_what_ssh_said_in_the_place_of_an_engine_is_not_taken_for_its_refusal() -> None:
    def info() -> None:
        raise refusal(502, "Connection closed by remote host")

    with pytest.raises(ApiaryError, match=r"the connection to myvm1 .* broke when .* Connection closed by") as broken:
        Connection("myvm1", {"docker_host": "unix:///run/myvm1.sock"}, None).ask("describe itself", info)
    assert not isinstance(broken.value, Refused)
