# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Nodes are taken out of work and given back, and tasks are moved: against a swarm that is made of dictionaries.

It does what swarm was seen to do: a task starts where the fewest of its service are, is ended where the most are, and a
drained node loses all it has at once.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import MagicMock

import pytest
import requests
from docker.errors import APIError

from ansible_collections.apiary.swarm.plugins.module_utils.convergence import eligible_nodes
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.maintenance import Care, Subject, survey
from ansible_collections.apiary.swarm.plugins.module_utils.rebalance import Rebalance
from ansible_collections.apiary.swarm.plugins.module_utils.swarm_view import Settings, Stalled, swarm_of

Object = dict[str, Any]
REMEMBERED = "apiary.maintenance.availability"
REPLICAS = "apiary.rebalance.replicas"


def refusal(status: int, message: str) -> APIError:
    response = requests.Response()
    response.status_code = status
    return APIError(message, response=response, explanation=message)


class World:
    """A swarm, its engines, and a clock that runs only while somebody sleeps."""

    def __init__(self, **roles: str) -> None:
        self.time = 0.0
        self.start_seconds = 5.0
        self.nodes: dict[str, Object] = {}
        self.services: dict[str, Object] = {}
        self.tasks: list[Object] = []
        self.volumes: dict[str, list[str]] = {}
        self.silent: set[str] = set()
        #: nodes that have no room for another task
        self.full: set[str] = set()
        self.left: list[str] = []
        self.leader = True
        #: after each look, so that a test can interfere
        self.events: list[tuple[float, Callable[[], None]]] = []
        self.said: list[str] = []
        #: how many tasks of each service ran at the worst moment
        self.fewest: dict[str, int] = {}
        for name, role in roles.items():
            self.add_node(name, role)

    def add_node(self, name: str, role: str = "worker") -> None:
        self.nodes[name] = {
            "ID": f"id-{name}",
            "Version": {"Index": 1},
            "Spec": {"Role": role, "Availability": "active", "Labels": {}},
            "Description": {"Hostname": name},
            "Status": {"State": "ready", "Addr": f"192.168.0.{len(self.nodes) + 1}"},
        }
        if role == "manager":
            self.nodes[name]["ManagerStatus"] = {"Reachability": "reachable", "Addr": "x:2377"}

    def add_service(self, name: str, replicas: int | None, where: str = "", **template: Any) -> None:
        """Add a service; its tasks run on the nodes *where*, by their names."""
        mode: Object = {"Global": {}} if replicas is None else {"Replicated": {"Replicas": replicas}}
        self.services[name] = {
            "ID": f"id-{name}",
            "Version": {"Index": 1},
            "Spec": {"Name": name, "Mode": mode, "TaskTemplate": {"ContainerSpec": {"Image": "x"}, **template}},
        }
        for node in where.split():
            self._add_task(name, node, running_since=0.0)
        self.settle()

    def _add_task(self, service: str, node: str, running_since: float | None = None) -> None:
        state = "pending" if not node else "starting" if running_since is None else "running"
        status = {"State": state, **({} if node else {"Err": "no suitable node"})}
        self.tasks.append({
            "ID": f"task-{len(self.tasks)}",
            "ServiceID": f"id-{service}",
            "NodeID": f"id-{node}" if node else "",
            "Slot": len(self.tasks) + 1,
            "Spec": self.services[service]["Spec"]["TaskTemplate"],
            "CreatedAt": f"2026-01-01T00:00:{len(self.tasks) % 60:02}Z",
            "DesiredState": "running",
            "Status": status,
            "since": self.time,
        })  # fmt: skip

    # What swarm does by itself

    def settle(self) -> None:
        for task in self.tasks:
            old_enough = self.time - task["since"] >= self.start_seconds
            if task["Status"]["State"] == "starting" and old_enough:
                task["Status"] = {"State": "running"}
            if task["DesiredState"] == "shutdown" and self.time - task.get("ending", 0) >= 2:
                task["Status"] = {"State": "shutdown"}
        for name, service in self.services.items():
            self._reconcile(name, service)
            running = sum(1 for task in self._alive(name) if task["Status"]["State"] == "running")
            self.fewest[name] = min(self.fewest.get(name, running), running)

    def _alive(self, name: str) -> list[Object]:
        return [task for task in self.tasks if task["ServiceID"] == f"id-{name}" and task["DesiredState"] == "running"]

    def _end(self, task: Object) -> None:
        task["DesiredState"], task["ending"] = "shutdown", self.time
        if task["Status"]["State"] != "running":
            task["Status"] = {"State": "shutdown"}

    def _reconcile(self, name: str, service: Object) -> None:
        nodes = list(self.nodes.values())
        usable = {node["ID"] for node in nodes if node["Status"]["State"] != "down"}
        usable -= {node["ID"] for node in nodes if node["Spec"]["Availability"] == "drain"}
        for task in self._alive(name):
            if task["NodeID"] and task["NodeID"] not in usable:
                self._end(task)
        takes = [node for node in nodes if node["Spec"]["Availability"] == "active"]
        eligible = {node.removeprefix("id-") for node in eligible_nodes(service, takes)} - self.full
        counts = Counter(task["NodeID"] for task in self._alive(name))
        if "Global" in service["Spec"]["Mode"]:
            for node in sorted(eligible - {node.removeprefix("id-") for node in counts}):
                self._add_task(name, node)
            return
        wanted = service["Spec"]["Mode"]["Replicated"]["Replicas"]
        for task in self._alive(name):
            if not task["NodeID"] and eligible:
                self.tasks.remove(task)
                counts[""] -= 1
        while sum(counts.values()) < wanted:
            node = min(sorted(eligible), key=lambda node: counts[f"id-{node}"], default="")
            self._add_task(name, node)
            counts[f"id-{node}" if node else ""] += 1
        while sum(counts.values()) > wanted:
            worst = max(
                self._alive(name), key=lambda task: (task["Status"]["State"] != "running", counts[task["NodeID"]])
            )
            self._end(worst)
            counts[worst["NodeID"]] -= 1

    # The clock

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        for event in [event for event in self.events if event[0] <= self.time]:
            self.events.remove(event)
            event[1]()
        self.settle()

    # What tests ask

    def where(self, name: str) -> dict[str, int]:
        running = [task for task in self._alive(name) if task["Status"]["State"] == "running"]
        return dict(sorted(Counter(task["NodeID"].removeprefix("id-") for task in running).items()))

    def availability(self, name: str) -> str:
        return str(self.nodes[name]["Spec"]["Availability"])

    # What Apiary does

    @contextmanager
    def connect(self, endpoint: Mapping[str, Any], timeout_seconds: int = 60) -> Iterator[Engine]:
        name = str(endpoint["docker_host"])
        if name in self.silent:
            raise ApiaryError(f"cannot reach the engine at {name}")
        yield Engine(self, name)

    def settings(self, *, check: bool = False) -> Settings:
        return Settings(self.connect, 60, check_mode=check, say=self.said.append, clock=self)

    @property
    def managers(self) -> list[Object]:
        names = [name for name, node in self.nodes.items() if node["Spec"]["Role"] == "manager"]
        return [{"name": name, "docker": {"docker_host": name}} for name in names]

    def care(self, name: str, managers: list[Object] | None = None, *, check: bool = False) -> Care:
        subject = Subject(name, {"docker_host": name})
        return Care(subject, managers or self.managers, self.settings(check=check))

    def rebalance(self, *only: str, check: bool = False) -> Rebalance:
        with swarm_of(self.managers, self.settings(check=check)) as swarm:
            balance = Rebalance(swarm)
            balance.run(only or None)
        return balance


class Engine:
    """One engine, with the methods of docker.APIClient that the code under test calls."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name

    def _swarm(self) -> World:
        node = self.world.nodes.get(self.name)
        if not node or node["Spec"]["Role"] != "manager" or self.name in self.world.left:
            raise refusal(503, "This node is not a swarm manager.")
        if not self.world.leader:
            raise refusal(503, "rpc error: code = Unknown desc = The swarm does not have a leader.")
        return self.world

    def info(self) -> Object:
        node = self.world.nodes.get(self.name)
        inside = bool(node) and self.name not in self.world.left
        is_manager = inside and bool(node) and node["Spec"]["Role"] == "manager"  # type: ignore[index]
        state = {"LocalNodeState": "active" if inside else "inactive", "ControlAvailable": is_manager}
        return {"Name": self.name, "Swarm": {**state, "NodeID": f"id-{self.name}" if inside else ""}}

    def inspect_swarm(self) -> Object:
        self._swarm()
        return {"ID": "one"}

    def nodes(self) -> list[Object]:
        return copy.deepcopy(list(self._swarm().nodes.values()))

    def services(self) -> list[Object]:
        return copy.deepcopy(list(self._swarm().services.values()))

    def tasks(self) -> list[Object]:
        return copy.deepcopy(self._swarm().tasks)

    def inspect_node(self, node_id: str) -> Object:
        return copy.deepcopy(self._swarm().nodes[node_id.removeprefix("id-")])

    def update_node(self, node_id: str, version: int, spec: Object) -> None:
        node = self._swarm().nodes[node_id.removeprefix("id-")]
        if version != node["Version"]["Index"]:
            raise refusal(500, "rpc error: code = Unknown desc = update out of sequence")
        node["Version"]["Index"] += 1
        node["Spec"] = copy.deepcopy(spec)
        if spec["Role"] == "worker":
            node.pop("ManagerStatus", None)
        self.world.settle()

    def inspect_service(self, service_id: str) -> Object:
        return copy.deepcopy(self._swarm().services[service_id.removeprefix("id-")])

    def _url(self, path: str, *words: str) -> str:
        return path.format(*words)

    def _post_json(self, url: str, data: Object, params: Object) -> str:
        service = self._swarm().services[url.split("/")[2].removeprefix("id-")]
        assert params["version"] == service["Version"]["Index"]
        service["Version"]["Index"] += 1
        service["Spec"] = copy.deepcopy(data)
        self.world.settle()
        return ""

    def _raise_for_status(self, answer: str) -> None:
        assert answer == ""

    def volumes(self) -> Object:
        return {"Volumes": [{"Name": name, "Driver": "local"} for name in self.world.volumes.get(self.name, [])]}

    def leave_swarm(self, force: bool) -> None:
        if self.world.nodes[self.name]["Spec"]["Role"] == "manager":
            raise refusal(503, "You are attempting to leave the swarm on a node that is participating as a manager.")
        self.world.left.append(self.name)

    def remove_node(self, node_id: str, force: bool) -> None:
        node = self._swarm().nodes[node_id.removeprefix("id-")]
        if node["Spec"]["Role"] == "manager":
            raise refusal(400, "node is a cluster manager and is a member of the raft cluster")
        del self.world.nodes[node_id.removeprefix("id-")]
        self.world.settle()


@pytest.fixture
def three() -> World:
    """Three managers, two workers, and a service with a task on each."""
    world = World(m1="manager", m2="manager", m3="manager", w1="worker", w2="worker")
    world.add_service("web", 5, "m1 m2 m3 w1 w2")
    return world


@pytest.fixture
def two() -> World:
    """The tutorial's: a manager and a worker."""
    world = World(m1="manager", w1="worker")
    world.add_service("web", 2, "m1 w1")
    return world


# An even spread


def test_new_nodes_get_their_share_and_nobody_else_is_touched(two: World) -> None:
    two.add_service("api", 5, "m1 m1 m1 w1 w1")
    before = {task["ID"] for task in two.tasks}
    two.add_node("w2")
    two.add_node("w3")
    balance = two.rebalance()
    assert balance.actions == ["move 2 of 5 tasks of api (3 on m1, 2 on w1, 0 on w2, 0 on w3)"]
    assert sorted(two.where("api").values()) == [1, 1, 1, 2]
    assert two.fewest["api"] == 5
    assert len([task for task in two._alive("api") if task["ID"] in before]) == 3
    assert two.where("web") == {"m1": 1, "w1": 1}
    assert REPLICAS not in two.services["api"]["Spec"]["Labels"]
    assert two.rebalance().actions == []


def test_check_says_what_would_move_and_moves_nothing(two: World) -> None:
    two.add_node("w2")
    two.add_service("api", 4, "m1 m1 w1 w1")
    before = copy.deepcopy(two.services)
    assert two.rebalance(check=True).actions == ["move 1 of 4 tasks of api (2 on m1, 2 on w1, 0 on w2)"]
    assert two.services == before
    assert "would move 1 of 4 tasks of api (2 on m1, 2 on w1, 0 on w2)" in two.said


def test_services_are_moved_one_after_another(two: World) -> None:
    two.add_service("api", 2, "m1 m1")
    two.add_service("db", 2, "m1 m1")
    changed: list[str] = []
    post = Engine._post_json

    def noted(engine: Engine, url: str, data: Object, params: Object) -> str:
        changed.append(f"{data['Name']} {data['Mode']['Replicated']['Replicas']}")
        return post(engine, url, data, params)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "_post_json", noted)
        two.rebalance()
    assert changed == ["api 3", "api 2", "db 3", "db 2"]


def test_interrupted_move_is_finished_by_the_next_run(two: World) -> None:
    two.add_service("api", 2, "m1 m1")
    two.events.append((2.0, lambda: (_ for _ in ()).throw(KeyboardInterrupt)))
    with pytest.raises(KeyboardInterrupt):
        two.rebalance()
    assert two.services["api"]["Spec"]["Labels"] == {REPLICAS: "2"}
    balance = two.rebalance()
    assert balance.actions[0] == "take back the tasks of api beyond 2, which an interrupted run has left"
    assert two.where("api") == {"m1": 1, "w1": 1}
    assert two.services["api"]["Spec"]["Labels"] == {}
    assert two.services["api"]["Spec"]["Mode"]["Replicated"]["Replicas"] == 2


def test_tasks_that_do_not_start_elsewhere_are_taken_back(two: World) -> None:
    two.add_service("api", 2, "m1 m1")
    two.start_seconds = 10_000
    with pytest.raises(Stalled, match=r"no progress for 60 seconds: api lacks 1 of its tasks.*2 replicas again"):
        two.rebalance()
    assert two.where("api") == {"m1": 2}
    assert two.fewest["api"] == 2


def test_slow_start_is_waited_for_as_long_as_something_moves(two: World) -> None:
    two.add_service("api", 6, "m1 m1 m1 m1 m1 m1")
    two.start_seconds = 55
    two.rebalance()
    assert two.where("api") == {"m1": 3, "w1": 3}


def test_only_named_services_are_moved(two: World) -> None:
    two.add_service("api", 2, "m1 m1")
    two.add_service("db", 2, "m1 m1")
    assert two.rebalance("db").actions == ["move 1 of 2 tasks of db (2 on m1, 0 on w1)"]
    assert two.where("api") == {"m1": 2}


def test_what_is_left_alone_is_told(two: World) -> None:
    two.add_service("api", 2, "m1 m1", ContainerSpec={"Image": "x", "Env": ["N={{.Task.Slot}}"]})
    balance = two.rebalance()
    assert (balance.actions, list(balance.left_alone)) == ([], ["api"])
    assert "api is spread unevenly and left alone: its tasks are told apart by their numbers" in two.said


# Away for a while


@pytest.mark.parametrize("before", ["active", "pause"])
def test_node_is_drained_and_given_back_as_it_was(three: World, before: str) -> None:
    three.nodes["w1"]["Spec"]["Availability"] = before
    result = three.care("w1").drained()
    assert (result["changed"], result["actions"]) == (True, ["drain w1"])
    assert three.nodes["w1"]["Spec"]["Labels"] == {REMEMBERED: before}
    assert sum(three.where("web").values()) == 5
    assert "w1" not in three.where("web")
    assert not three.care("w1").drained()["changed"]
    result = three.care("w1").restored()
    assert result["actions"] == [f"set availability {before}"]
    assert three.availability("w1") == before
    assert three.nodes["w1"]["Spec"]["Labels"] == {}
    assert not three.care("w1").restored()["changed"]


def test_paused_node_gets_the_tasks_again_that_run_there_alone(two: World) -> None:
    two.add_service("redis", 1, "w1", Placement={"Constraints": ["node.hostname == w1"]})
    two.add_service("proxy", None, "m1 w1")
    two.nodes["w1"]["Spec"]["Availability"] = "pause"
    two.care("w1").drained()
    assert two.where("redis") == {}
    two.care("w1").restored()
    assert two.availability("w1") == "pause"
    assert two.where("redis") == {"w1": 1}
    assert two.where("proxy") == {"m1": 1, "w1": 1}


def test_what_is_remembered_outlives_an_interrupted_return(two: World) -> None:
    # for a moment a paused node is active on its way back
    two.nodes["w1"]["Spec"]["Labels"][REMEMBERED] = "pause"
    two.care("w1").drained()
    assert two.nodes["w1"]["Spec"]["Labels"] == {REMEMBERED: "pause"}
    two.care("w1").restored()
    assert two.availability("w1") == "pause"


def test_node_that_somebody_drained_stays_drained(three: World) -> None:
    three.nodes["w1"]["Spec"]["Availability"] = "drain"
    three.care("w1").drained()
    three.care("w1").restored()
    assert three.availability("w1") == "drain"


def test_drain_waits_for_the_tasks_elsewhere_and_for_the_end_of_those_here(three: World) -> None:
    three.start_seconds = 40
    three.care("w1").drained()
    assert three.time >= 40
    assert not [t for t in three.tasks if t["NodeID"] == "id-w1" and t["Status"]["State"] == "running"]


def test_service_that_is_all_on_the_node_is_never_silent(two: World) -> None:
    two.add_service("api", 2, "w1 w1")
    result = two.care("w1").drained()
    assert result["actions"] == ["move 1 of 2 tasks of api (0 on m1, 2 on w1)", "drain w1"]
    assert two.fewest["api"] == 1
    assert two.where("api") == {"m1": 2}


def test_check_of_a_drain_changes_nothing(two: World) -> None:
    two.add_service("api", 2, "w1 w1")
    before = copy.deepcopy((two.nodes, two.services))
    result = two.care("w1", check=True).drained()
    assert result["actions"] == ["move 1 of 2 tasks of api (0 on m1, 2 on w1)", "drain w1"]
    assert (two.nodes, two.services) == before


def test_tasks_that_can_run_nowhere_else_are_told_and_not_waited_for(two: World) -> None:
    two.add_service("redis", 1, "w1", Placement={"Constraints": ["node.hostname == w1"]})
    result = two.care("w1").drained()
    assert result["warnings"] == ["redis can run on w1 alone: it is away for a while, as its node is"]
    assert two.where("redis") == {}
    two.care("w1").restored()
    assert two.where("redis") == {"w1": 1}


def test_tasks_that_find_no_place_undo_the_drain(two: World) -> None:
    two.add_service("api", 1, "w1")
    two.full.add("m1")
    with pytest.raises(Stalled, match=r"cannot end: .*no suitable node.*w1 takes tasks again as before"):
        two.care("w1").drained()
    assert two.availability("w1") == "active"
    assert two.nodes["w1"]["Spec"]["Labels"] == {}


def test_service_that_lacked_tasks_before_does_not_hold_up_others(two: World) -> None:
    two.add_service("broken", 3, "", Placement={"Constraints": ["node.hostname == nowhere"]})
    assert two.care("w1").drained()["changed"]


def test_interrupted_drain_is_waited_for_by_the_next_run(three: World) -> None:
    three.start_seconds = 30
    three.events.append((5.0, lambda: (_ for _ in ()).throw(KeyboardInterrupt)))
    with pytest.raises(KeyboardInterrupt):
        three.care("w1").drained()
    assert not three.care("w1").drained()["changed"]
    assert sum(three.where("web").values()) == 5


def test_manager_that_is_needed_stays(three: World) -> None:
    three.nodes["m3"]["ManagerStatus"]["Reachability"] = "unreachable"
    with pytest.raises(ApiaryError, match=r"m1 is needed: of 3 managers 2 are a majority, and 1 in reach .*m3 cannot"):
        three.care("m1").drained()
    assert three.availability("m1") == "active"


def test_only_manager_can_be_away_for_a_while(two: World) -> None:
    two.care("m1").drained()
    assert two.where("web") == {"w1": 2}
    assert two.fewest["web"] == 1


def test_node_of_no_swarm_has_nothing_to_drain_or_to_get_back(two: World) -> None:
    two.care("w9").drained()
    assert two.care("w9").restored()["node_id"] is None


def test_managers_may_take_their_time_after_a_start(three: World) -> None:
    three.care("m2").drained()
    three.leader = False
    three.nodes["m2"]["Status"]["State"] = "down"
    three.nodes["m2"]["ManagerStatus"]["Reachability"] = "unreachable"
    three.events.append((three.time + 20, lambda: setattr(three, "leader", True)))
    three.events.append((three.time + 30, lambda: three.nodes["m2"]["Status"].update(State="ready")))
    back = {"Reachability": "reachable"}
    three.events.append((three.time + 40, lambda: three.nodes["m2"]["ManagerStatus"].update(back)))
    began = three.time
    three.care("m2").restored()
    assert three.time - began >= 40
    assert three.availability("m2") == "active"


def test_manager_that_is_too_busy_to_answer_is_asked_again(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Exception] = [
        requests.exceptions.ReadTimeout("Read timed out. (read timeout=45)"),
        refusal(500, "rpc error: code = DeadlineExceeded desc = context deadline exceeded"),
    ]
    nodes = Engine.nodes

    def slow(engine: Engine) -> list[Object]:
        if two.time > 1 and answers:
            raise answers.pop()
        return nodes(engine)

    monkeypatch.setattr(Engine, "nodes", slow)
    two.care("w1").drained()
    assert answers == []
    assert two.availability("w1") == "drain"


@pytest.mark.parametrize("does", ["restored", "drained"])
def test_locked_swarm_is_told_at_once_with_what_unlocks_it(
    two: World, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    message = "Swarm is encrypted and needs to be unlocked before it can be used."
    monkeypatch.setattr(Engine, "inspect_swarm", MagicMock(side_effect=refusal(503, message)))
    with pytest.raises(ApiaryError, match=r"m1 holds a locked swarm.* docker --host m1 swarm unlock") as caught:
        getattr(two.care("w1"), does)()
    assert "playbooks/start.yml" not in str(caught.value)
    assert two.time < 5


def test_hopeless_service_is_told_at_the_return_and_is_no_failure(two: World) -> None:
    two.care("w1").drained()
    two.add_service("broken", 3, "", Placement={"Constraints": ["node.hostname == nowhere"]})
    assert two.care("w1").restored()["warnings"] == ["broken lacks tasks: no suitable node"]


def test_silent_engine_is_no_return(two: World) -> None:
    two.silent.add("w1")
    with pytest.raises(ApiaryError, match="w1 does not answer"):
        two.care("w1").restored()


# Away for good


def test_worker_leaves_step_by_step(three: World) -> None:
    result = three.care("w1").left(data_loss_confirmed=False)
    assert result["actions"] == ["drain w1", "have w1 leave the swarm", "remove w1 from the list of nodes"]
    assert "w1" not in three.nodes
    assert three.left == ["w1"]
    assert sum(three.where("web").values()) == 5
    assert three.fewest["web"] == 4
    assert not three.care("w1").left(data_loss_confirmed=False)["changed"]


def test_manager_is_demoted_before_it_leaves_and_another_is_asked(three: World) -> None:
    result = three.care("m1").left(data_loss_confirmed=False)
    assert result["actions"] == [
        *("drain m1", "demote m1 to a worker", "have m1 leave the swarm", "remove m1 from the list of nodes"),
    ]
    assert result["manager"] == "m2"


def test_check_of_a_removal_changes_nothing(three: World) -> None:
    before = copy.deepcopy((three.nodes, three.services, three.left))
    assert len(three.care("m1", check=True).left(data_loss_confirmed=False)["actions"]) == 4
    assert (three.nodes, three.services, three.left) == before


def test_second_of_three_managers_is_refused(three: World) -> None:
    managers = three.managers
    three.care("m1").left(data_loss_confirmed=False)
    before = copy.deepcopy(three.nodes)
    with pytest.raises(ApiaryError, match=r"nothing was changed: m2 is a manager, and of 2 managers 2 are a majority"):
        three.care("m2", managers).left(data_loss_confirmed=True)
    assert three.nodes == before


def test_only_manager_is_refused(two: World) -> None:
    with pytest.raises(ApiaryError, match=r"nothing was changed: m1 is the only manager.*playbooks/destroy\.yml"):
        two.care("m1").left(data_loss_confirmed=True)


def test_live_manager_is_refused_while_another_is_dead_and_the_dead_one_may_go(three: World) -> None:
    three.silent.add("m3")
    three.nodes["m3"]["Status"]["State"] = "down"
    three.nodes["m3"]["ManagerStatus"]["Reachability"] = "unreachable"
    three.settle()
    with pytest.raises(ApiaryError, match=r"m2 is a manager, and .*m3 cannot be"):
        three.care("m2").left(data_loss_confirmed=False)
    result = three.care("m3").left(data_loss_confirmed=False)
    assert result["actions"] == ["drain m3", "demote m3 to a worker", "remove m3 from the list of nodes"]
    assert not result["warnings"]
    assert "m3" not in three.nodes


@pytest.mark.parametrize(
    ("volumes", "template", "refusal"),
    [
        (["by_hand"], {}, "w1 has the only copy of the volume by_hand"),
        (
            [],
            {"ContainerSpec": {"Mounts": [{"Type": "bind", "Source": "/srv/db"}]}},
            "the only copy of the directory /srv/db of the service db",
        ),
        (
            [],
            {"Placement": {"Constraints": ["node.hostname == w1"]}},
            r"db can run on w1 alone \(node.hostname == w1\)",
        ),
    ],
)
def test_data_is_not_lost_unless_asked_for(two: World, volumes: list[str], template: Object, refusal: str) -> None:
    two.volumes["w1"] = volumes
    two.add_service("db", 1, "w1", **{"ContainerSpec": {"Image": "x"}, **template})
    before = copy.deepcopy(two.nodes)
    with pytest.raises(ApiaryError, match=rf"nothing was changed: .*{refusal}.*remove_node_data_loss_confirmed=true"):
        two.care("w1").left(data_loss_confirmed=False)
    assert two.nodes == before
    two.care("w1").left(data_loss_confirmed=True)
    assert "w1" not in two.nodes


def test_what_is_no_services_stays_with_a_machine_that_stays(two: World) -> None:
    two.volumes["w1"] = ["mine"]
    subject = Subject("w1", {"docker_host": "w1"}, stays=True)
    Care(subject, two.managers, two.settings()).left(data_loss_confirmed=False)
    assert "w1" not in two.nodes


def test_data_of_a_node_that_has_left_already_is_not_lost_either(two: World) -> None:
    two.volumes["w9"] = ["data"]
    with pytest.raises(ApiaryError, match="the only copy of the volume data"):
        two.care("w9").left(data_loss_confirmed=False)


def test_tasks_with_nowhere_to_go_are_refused(two: World) -> None:
    two.nodes["m1"]["Spec"]["Availability"] = "drain"
    with pytest.raises(ApiaryError, match="w1 has tasks, and no other node is there that takes some"):
        two.care("w1").left(data_loss_confirmed=True)


@pytest.mark.parametrize("step", ["drain w1", "have w1 leave the swarm"])
def test_interrupted_removal_is_finished_by_the_next_run(two: World, step: str) -> None:
    def interrupt(text: str) -> None:
        if step in text:
            raise KeyboardInterrupt

    care = two.care("w1")
    care.settings.say = interrupt
    with pytest.raises(KeyboardInterrupt):
        care.left(data_loss_confirmed=False)
    two.care("w1").left(data_loss_confirmed=False)
    assert "w1" not in two.nodes
    assert two.left == ["w1"]


def test_node_is_removed_that_has_left_and_is_still_listed(two: World) -> None:
    two.left.append("w1")
    result = two.care("w1").left(data_loss_confirmed=False)
    assert result["actions"] == ["drain w1", "remove w1 from the list of nodes"]


def test_engine_at_a_guessed_address_that_is_another_node_is_left_alone(two: World) -> None:
    two.add_node("w2")
    care = Care(Subject("w1", {"docker_host": "w2"}, guessed=True), two.managers, two.settings())
    warnings = care.left(data_loss_confirmed=False)["warnings"]
    assert warnings[0].startswith("w1 could not be told that it has left, as what answers at w2 is w2")
    assert two.left == []
    assert sorted(two.nodes) == ["m1", "w2"]


def test_node_is_found_by_its_id_and_namesakes_are_told_apart(two: World) -> None:
    two.nodes["w2"] = copy.deepcopy(two.nodes["w1"]) | {"ID": "id-w2"}
    two.nodes["w2"]["Status"] = {"State": "down", "Addr": "192.168.0.2"}
    two.nodes["w1"]["Status"]["State"] = "down"
    nobody = {"docker_host": "gone"}
    two.silent.add("gone")
    with pytest.raises(ApiaryError, match=r"2 nodes of the swarm are called w1: id-w1 at .*, id-w2 at "):
        Care(Subject("w1", nobody), two.managers, two.settings()).left(data_loss_confirmed=False)
    Care(Subject("id-w2", nobody), two.managers, two.settings()).left(data_loss_confirmed=False)
    assert sorted(two.nodes) == ["m1", "w1"]


# Who is there


def test_survey_puts_hosts_in_order_and_names_strangers(three: World) -> None:
    three.nodes["m1"]["ManagerStatus"]["Leader"] = True
    three.nodes["w2"]["Status"]["State"] = "down"
    hosts = {"m1": "", "m2": "", "m3": "", "w2": "", "other": "192.168.0.4", "new": ""}
    seen = survey(hosts, three.managers, three.settings())
    assert seen.order == ["new", "w2", "other", "m2", "m3", "m1"]
    assert seen.ready == ["m1", "m2", "m3", "other"]
    assert (seen.absent, seen.strangers, seen.manager) == (["new"], [], "m1")
    assert survey({"m1": ""}, three.managers, three.settings()).strangers == ["m2", "m3", "w1", "w2"]


def test_survey_without_a_manager_is_no_failure(three: World) -> None:
    three.leader = False
    seen = survey(dict.fromkeys(three.nodes, ""), three.managers, three.settings())
    assert (seen.order, seen.manager) == (["w1", "w2", "m3", "m2", "m1"], "")
    assert "does not have a leader" in seen.why
