# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When a stack counts as running, when as failed, and when there is reason to wait."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils.convergence import (
    Context,
    ServiceVerdict,
    State,
    eligible_nodes,
    judge,
    overall,
    parse_time,
)
from ansible_collections.apiary.swarm.plugins.module_utils.stack import digest

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
OLD, NEW = {"ContainerSpec": {"Image": "web:1"}}, {"ContainerSpec": {"Image": "web:2"}}


def ago(seconds: float) -> str:
    """Return a time as Docker writes it, with nanoseconds."""
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "789Z"


def node(name: str = "n1", **changes: Any) -> dict[str, Any]:
    state, availability = changes.get("state", "ready"), changes.get("availability", "active")
    return {
        "ID": name,
        "Spec": {"Role": changes.get("role", "worker"), "Availability": availability, "Labels": changes.get("labels")},
        "Status": {"State": state, "Addr": "10.0.0.1"},
        "Description": {"Hostname": f"host-{name}", "Platform": {"OS": "linux", "Architecture": "x86_64"}},
    }


def service(
    mode: dict[str, Any] | None = None,
    *,
    restart: str | None = None,
    attempts: int = 0,
    update: str = "",
    updated: float = 60,
    ports: bool = False,
    constraints: Sequence[str] = (),
    template: dict[str, Any] = NEW,
) -> dict[str, Any]:
    """Return a service that was last updated *updated* seconds ago; two replicas by default."""
    task_template = {**deepcopy(template), "Runtime": "container", "Placement": {"Constraints": list(constraints)}}
    if restart:
        task_template["RestartPolicy"] = {"Condition": restart, "MaxAttempts": attempts}
    return {
        "ID": "s",
        "UpdatedAt": ago(updated),
        "Spec": {"Name": "x_web", "TaskTemplate": task_template, "Mode": mode or {"Replicated": {"Replicas": 2}}},
        "Endpoint": {"Ports": [{"PublishedPort": 80}]} if ports else {},
        "JobStatus": {"JobIteration": {"Index": 7}},
        **({"UpdateStatus": {"State": update, "Message": "because"}} if update else {}),
    }


def task(of: dict[str, Any], slot: int = 1, state: str = "running", **changes: Any) -> dict[str, Any]:
    """Return a task of *of*'s present version, made and last touched 30 seconds ago."""
    ended = state in ("failed", "rejected", "complete", "shutdown")
    template = {key: value for key, value in of["Spec"]["TaskTemplate"].items() if key != "Runtime"}
    return {
        "ID": changes.get("id", f"t{slot}{state}{changes.get('made', 30)}"),
        "ServiceID": "s",
        "Slot": slot,
        "NodeID": changes.get("node", "n1"),
        "Spec": {**template, **changes.get("spec", {})},
        "CreatedAt": ago(changes.get("made", 30)),
        "UpdatedAt": ago(changes.get("touched", 30)),
        "DesiredState": changes.get("desired", "shutdown" if ended else "running"),
        "Status": {"State": state, "Err": changes.get("error", "")},
        "JobIteration": {"Index": changes.get("iteration", 7)},
    }


def verdict(of: dict[str, Any], tasks: Sequence[dict[str, Any]], **context: Any) -> ServiceVerdict:
    """Judge one service on two ready nodes; the deploy was 45 seconds ago."""
    since = NOW - timedelta(seconds=context.pop("since", 45))
    nodes = context.pop("nodes", [node("n1", role="manager"), node("n2")])
    return judge({"web": of}, tasks, nodes, Context(NOW, since, **context))["web"]


REPLICATED = service()
JOB = service({"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 2}})
GLOBAL = service({"Global": {}})
ON_FAILURE = service(restart="on-failure")
BOTH = [task(REPLICATED, 1), task(REPLICATED, 2)]


@pytest.mark.parametrize(
    ("of", "tasks"),
    [
        pytest.param(REPLICATED, BOTH, id="all run"),
        pytest.param(service({"Replicated": {"Replicas": 0}}), [], id="zero replicas"),
        pytest.param(JOB, [task(JOB, 1, "complete"), task(JOB, 2, "complete")], id="a job that is completed"),
        pytest.param(
            service({"GlobalJob": {}}),
            [task(service({"GlobalJob": {}}), n, "complete", node=f"n{n}") for n in (1, 2)],
            id="a global job that is completed",
        ),
        pytest.param(GLOBAL, [task(GLOBAL, 0, node="n1"), task(GLOBAL, 0, node="n2")], id="global on every node"),
        pytest.param(
            ON_FAILURE,
            [task(ON_FAILURE, 1, "complete"), task(ON_FAILURE, 2, "complete")],
            id="one-shot service that ended well",
        ),
        pytest.param(service(update="completed", updated=1), BOTH, id="an update that has just completed"),
        pytest.param(
            REPLICATED,
            [*BOTH, *(task(REPLICATED, 1, "failed", made=1000 + n) for n in range(5))],
            id="failures from earlier deploys",
        ),
        pytest.param(
            REPLICATED,
            [*BOTH, *(task(REPLICATED, 1, "failed", made=40 + n, spec=OLD) for n in range(5))],
            id="failures of another version",
        ),
        pytest.param(
            REPLICATED,
            [*BOTH, *(task(REPLICATED, 1, "rejected", made=50 + n) for n in range(5))],
            id="all before since",
        ),
        pytest.param(
            service(constraints=["node.role == worker"]),
            [task(service(), n) for n in (1, 2)],
            id="only placement differs",
        ),
        pytest.param(
            REPLICATED,
            [*BOTH, task(REPLICATED, 1, spec=OLD, desired="shutdown")],
            id="a replaced task is still stopping",
        ),
        pytest.param(
            ON_FAILURE,
            [task(ON_FAILURE, 1), task(ON_FAILURE, 2), task(ON_FAILURE, 1, "complete", made=9000)],
            id="a slot that once ended and runs again",
        ),
    ],
)
def test_converged(of: dict[str, Any], tasks: list[dict[str, Any]]) -> None:
    assert verdict(of, tasks).state is State.CONVERGED


@pytest.mark.parametrize(
    ("of", "tasks"),
    [
        pytest.param(REPLICATED, [], id="no task yet"),
        pytest.param(REPLICATED, [task(REPLICATED, 1)], id="one of two"),
        pytest.param(REPLICATED, [task(REPLICATED, 1), task(REPLICATED, 2, "starting")], id="not healthy yet"),
        pytest.param(REPLICATED, [*BOTH, task(REPLICATED, 3)], id="one too many"),
        pytest.param(
            REPLICATED, [task(REPLICATED, 1, spec=OLD), task(REPLICATED, 2, spec=OLD)], id="all of the version before"
        ),
        pytest.param(REPLICATED, [*BOTH, task(REPLICATED, 1, spec=OLD)], id="one of the version before left"),
        pytest.param(REPLICATED, [task(REPLICATED, 1), task(REPLICATED, 2, touched=1)], id="running for a second only"),
        pytest.param(service(updated=1), BOTH, id="changed a second ago: swarm may not have begun its update"),
        pytest.param(service(update="updating"), BOTH, id="update under way"),
        pytest.param(REPLICATED, [task(REPLICATED, 1), task(REPLICATED, 2, node="gone")], id="on a node that is down"),
        pytest.param(GLOBAL, [task(GLOBAL, 0, node="n1")], id="global, a node without a task"),
        pytest.param(JOB, [task(JOB, 1, "complete"), task(JOB, 2)], id="half a job"),
        pytest.param(JOB, [task(JOB, n, "complete", iteration=6) for n in (1, 2)], id="a job's run before"),
        pytest.param(
            REPLICATED, [*BOTH[:1], *(task(REPLICATED, 2, "failed", made=40 + n) for n in (0, 1))], id="two failures"
        ),
        pytest.param(
            REPLICATED,
            [*BOTH[:1], task(REPLICATED, 2, "failed", made=40), task(REPLICATED, 2, touched=5)],
            id="a slot that failed must stay up for longer",
        ),
        pytest.param(
            ON_FAILURE, [task(ON_FAILURE, 1, "complete"), task(ON_FAILURE, 2, "starting")], id="half a one-shot service"
        ),
    ],
)
def test_waiting(of: dict[str, Any], tasks: list[dict[str, Any]]) -> None:
    assert verdict(of, tasks).state is State.WAITING


PUBLISHED = service(restart="on-failure", ports=True)


@pytest.mark.parametrize(
    ("of", "tasks", "named"),
    [
        pytest.param(service(update="paused"), BOTH, "update is paused: because", id="paused"),
        pytest.param(service(update="rollback_started"), BOTH, "rolled back", id="rollback has begun"),
        pytest.param(service(update="rollback_paused"), BOTH, "rollback is paused", id="rollback is paused"),
        pytest.param(service(update="rollback_completed"), BOTH, "rolled back", id="rolled back, and everything runs"),
        pytest.param(
            REPLICATED,
            [*BOTH[:1], *(task(REPLICATED, 2, "failed", made=40 + n) for n in range(3))],
            "keep failing",
            id="one slot failed three times",
        ),
        pytest.param(
            REPLICATED, [task(REPLICATED, 1, "rejected", error="No such image: web:2")], "image", id="no such image"
        ),
        pytest.param(
            service(restart="none"), [task(service(restart="none"), 1, "failed")], "keep failing", id="is not restarted"
        ),
        pytest.param(
            service(restart="on-failure", attempts=1),
            [task(service(restart="on-failure", attempts=1), 1, "failed", made=40 + n) for n in (0, 1)],
            "keep failing",
            id="all attempts used",
        ),
        pytest.param(
            PUBLISHED,
            [task(PUBLISHED, 1, "complete"), task(PUBLISHED, 2)],
            "exit code 0",
            id="a server that ended well",
        ),
    ],
)
def test_failed(of: dict[str, Any], tasks: list[dict[str, Any]], named: str) -> None:
    result = verdict(of, tasks)
    assert result.state is State.FAILED
    assert named in result.reason


def test_failing_tasks_are_named_newest_first() -> None:
    failed = [task(REPLICATED, 1, "failed", made=made) for made in (44, 42, 43)]
    assert [entry["CreatedAt"] for entry in verdict(REPLICATED, failed).failing] == [ago(42), ago(43), ago(44)]


@pytest.mark.parametrize("state", ["failed", "complete"])
def test_after_a_rollback_the_tasks_of_the_undone_version_explain_it(state: str) -> None:
    undone = task(REPLICATED, 1, state, spec=OLD)
    assert verdict(service(update="rollback_completed"), [*BOTH, undone]).failing == [undone]


@pytest.mark.parametrize(("deployed", "state"), [(REPLICATED["Spec"], State.CONVERGED), ({}, State.FAILED)])
def test_a_rollback_to_what_was_deployed_undid_somebody_else_s_update(deployed: dict[str, Any], state: State) -> None:
    rolled_back = service(update="rollback_completed")
    assert verdict(rolled_back, BOTH, deployed={"web": digest(deployed)}).state is state


def test_a_task_that_ends_in_an_update_is_for_the_update_to_judge() -> None:
    updating = service(restart="on-failure", ports=True, update="updating")
    tasks = [task(updating, 1, "complete"), *(task(updating, slot, spec=OLD) for slot in (1, 2))]
    assert verdict(updating, tasks).state is State.WAITING


def test_a_service_that_was_removed_since_fails() -> None:
    verdicts = judge({}, [], [], Context(NOW, NOW, deployed={"web": "1"}))
    assert verdicts["web"].state is State.FAILED


def test_seeing_a_task_run_long_enough_settles_it_whatever_the_clocks_say() -> None:
    tasks = [task(REPLICATED, slot, touched=-500) for slot in (1, 2)]
    assert verdict(REPLICATED, tasks).state is State.WAITING
    seen = {entry["ID"]: 3.5 for entry in tasks}
    assert verdict(REPLICATED, tasks, seen_running=seen).state is State.CONVERGED


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, True),
        ({"state": "down"}, False),
        ({"availability": "drain"}, False),
        ({"role": "manager"}, False),
        ({"labels": {"disk": "hdd"}}, False),
    ],
)
def test_eligible_nodes_of_a_global_service(changes: dict[str, Any], counts: bool) -> None:
    constrained = service({"Global": {}}, constraints=["node.role==worker", "node.labels.disk != hdd"])
    assert eligible_nodes(constrained, [node("n1", **changes)]) == (["n1"] if counts else [])


@pytest.mark.parametrize(
    ("constraint", "counts"),
    [
        ("node.id == n1", True),
        ("node.hostname == host-n1", True),
        ("node.hostname != host-n1", False),
        ("node.platform.arch == X86_64", True),
        ("engine.labels.a == b", False),
        ("node.ip == 10.0.0.1", True),
    ],
)
def test_constraints(constraint: str, counts: bool) -> None:
    assert bool(eligible_nodes(service({"Global": {}}, constraints=[constraint]), [node("n1")])) == counts


def test_a_paused_node_keeps_its_global_task_and_gets_no_new_one() -> None:
    nodes = [node("n1"), node("n2", availability="pause")]
    first, second = task(GLOBAL, 0, node="n1"), task(GLOBAL, 0, node="n2", id="t2")
    assert verdict(GLOBAL, [first], nodes=nodes).state is State.CONVERGED
    assert verdict(GLOBAL, [first, second], nodes=nodes).state is State.CONVERGED


def test_the_reason_why_nothing_starts_is_shown() -> None:
    pending = task(REPLICATED, 2, "pending", error="no suitable node (2 nodes not available for new tasks)")
    assert "no suitable node" in verdict(REPLICATED, [task(REPLICATED), pending]).progress


def test_progress_counts_all_that_matters() -> None:
    tasks = [task(REPLICATED, 1), task(REPLICATED, 2, "starting"), task(REPLICATED, 2, spec=OLD)]
    assert verdict(REPLICATED, tasks).progress == "web 1/2 running, 1 starting, 1 of the version before"


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], State.CONVERGED),
        ([State.CONVERGED, State.WAITING], State.WAITING),
        ([State.WAITING, State.FAILED, State.CONVERGED], State.FAILED),
    ],
)
def test_one_failure_fails_the_stack(states: list[State], expected: State) -> None:
    assert overall([ServiceVerdict("a", state) for state in states]) is expected


def test_times_of_docker_are_read() -> None:
    assert parse_time("2026-11-23T03:36:58.475784495Z").microsecond == 475784
    assert parse_time("2026-11-23T05:36:58+02:00") == parse_time("2026-11-23T03:36:58Z")


def test_tasks_of_a_node_that_lost_power_are_history_once_others_have_taken_over() -> None:
    web = service(restart="on-failure", ports=True)
    lost = [task(web, 1, "complete", made=900, touched=5), task(web, 2, "complete", made=900, touched=5)]
    taken_over = [task(web, 1, "starting", made=4), task(web, 2, "running", made=4)]
    assert verdict(web, lost + taken_over).state is State.WAITING
    assert verdict(web, [*lost, taken_over[1]]).state is State.FAILED


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        (["dockerexec: unhealthy container"] * 3, "its tasks are stopped while they start, unhealthy before they ever"),
        (["task: non-zero exit (137): dockerexec: unhealthy container"] * 3, "its tasks keep failing"),
        (["dockerexec: unhealthy container"] * 2 + ["task: non-zero exit (1)"], "its tasks keep failing"),
    ],
)
def test_tasks_killed_while_starting_are_told_as_that(errors: list[str], reason: str) -> None:
    tasks = [task(REPLICATED, 1, "failed", made=10 + n, error=error) for n, error in enumerate(errors)]
    found = verdict(REPLICATED, tasks)
    assert found.state is State.FAILED
    assert found.reason.startswith(reason)
