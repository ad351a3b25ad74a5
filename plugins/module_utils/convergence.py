# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the services of a stack run as they were deployed: a verdict from what the swarm says, without asking it.

Facts of Docker Swarm that this rests on (engines 19.03 to 28):
  - A task carries the task template of its service as it was when the task was made. Scaling does not touch it.
  - A task with a health check is reported running only when it is healthy; until then it is starting.
  - Every change of a service's specification clears its UpdateStatus; the one that is there is the last change's.
  - A task's and a service's CreatedAt and UpdatedAt are the leader's clock; a task's Status.Timestamp is its node's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.ingress import is_proxied
from ansible_collections.apiary.swarm.plugins.module_utils.stack import spec_digest, update_state
from ansible_collections.apiary.swarm.plugins.module_utils.task_errors import is_killed_while_starting

Object = Mapping[str, Any]

#: so many failures of one slot, and the service is said to fail; swarm itself would go on for ever
FAILURES_ALLOWED = 3
_ENDED = ("complete", "failed", "rejected", "shutdown", "orphaned", "remove")


class State(Enum):
    CONVERGED = "converged"
    WAITING = "waiting"
    FAILED = "failed"


@dataclass
class ServiceVerdict:
    """How far one service is. ``failing`` holds the tasks whose errors and logs explain why it is no further."""

    name: str
    state: State = State.WAITING
    wanted: int = 0
    running: int = 0
    starting: int = 0
    outdated: int = 0
    stopping: int = 0
    completed: int = 0
    failures: int = 0
    settled: bool = False
    is_job: bool = False
    reason: str = ""
    failing: list[Object] = field(default_factory=list)

    @property
    def progress(self) -> str:
        """One line for the person who waits, such as 'web 3/5 running, 2 starting'."""
        done = f"{self.completed}/{self.wanted} completed" if self.is_job else f"{self.running}/{self.wanted} running"
        rest = [
            f"{count} {what}"
            for count, what in (
                (self.running if self.is_job else 0, "running"),
                (0 if self.is_job else self.completed, "completed"),
                (self.starting, "starting"),
                (self.outdated, "of the version before"),
                (self.stopping, "stopping"),
                (self.failures, "failed since the deploy"),
            )
            if count
        ]
        return ", ".join([f"{self.name} {done}", *rest]) + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True)
class Context:
    """What a verdict needs besides services, tasks and nodes; all times are the manager's clock."""

    now: datetime
    #: failures of tasks created earlier are history
    since: datetime
    settle_seconds: float = 3.0
    #: seconds for which the caller itself has seen a task running, by task ID
    seen_running: Mapping[str, float] = field(default_factory=dict)
    #: hash of the specification that was deployed, by name of the service; None where no record was found
    deployed: Mapping[str, str] | None = None


def parse_time(text: str) -> datetime:
    """Return the time in Docker's notation, nanoseconds cut to microseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))


def judge(
    services: Mapping[str, Object], tasks: Sequence[Object], nodes: Sequence[Object], context: Context
) -> dict[str, ServiceVerdict]:
    """Return the verdict on each of *services*, named as in the compose file."""
    verdicts = {}
    for name, service in services.items():
        own = [task for task in tasks if task["ServiceID"] == service["ID"]]
        verdicts[name] = _judge_service(name, service, own, nodes, context)
    for name in sorted(set(context.deployed or {}) - set(services)):
        verdicts[name] = ServiceVerdict(name, State.FAILED, reason="was removed since it was deployed")
    return verdicts


def health_seconds(task: Object) -> float:
    """Return how long the health check of *task* may fail from its start on, as far as its service sets it."""
    check = ((task.get("Spec") or {}).get("ContainerSpec") or {}).get("Healthcheck") or {}
    tries = (check.get("Interval") or 30e9) + (check.get("Timeout") or 30e9)
    return float(((check.get("StartPeriod") or 0) + (check.get("Retries") or 3) * tries) / 1e9) if check else 0.0


def overall(verdicts: Iterable[ServiceVerdict]) -> State:
    """Return failed if one failed, else waiting if one is not there yet."""
    states = {verdict.state for verdict in verdicts}
    return next((state for state in (State.FAILED, State.WAITING) if state in states), State.CONVERGED)


def is_current(task: Object, service: Object) -> bool:
    """Return whether *task* was made from the service's present task template.

    Placement is left out: swarm keeps a task whose node still satisfies the new constraints.
    """
    return _template(task["Spec"]) == _template(service["Spec"]["TaskTemplate"])


def _template(spec: Object) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key not in ("Runtime", "Placement")}


def eligible_nodes(service: Object, nodes: Iterable[Object]) -> list[str]:
    """Return the IDs of the nodes on which a global service runs a task: ready, not drained, constraints satisfied."""
    constraints = (service["Spec"]["TaskTemplate"].get("Placement") or {}).get("Constraints") or []
    return [
        node["ID"]
        for node in nodes
        if is_ready(node)
        and node["Spec"].get("Availability") != "drain"
        and all(_satisfies(node, constraint) for constraint in constraints)
    ]


def is_ready(node: Object) -> bool:
    return node.get("Status", {}).get("State") == "ready"


def _satisfies(node: Object, constraint: str) -> bool:
    match = re.match(r"^\s*(\S+?)\s*(==|!=)\s*(.*?)\s*$", constraint)
    if not match:
        return True
    key, operator, wanted = match.groups()
    description, labels = node.get("Description", {}), node["Spec"].get("Labels") or {}
    plain = {
        "node.id": node["ID"],
        "node.hostname": description.get("Hostname", ""),
        "node.role": node["Spec"].get("Role", ""),
        "node.platform.os": description.get("Platform", {}).get("OS", ""),
        "node.platform.arch": description.get("Platform", {}).get("Architecture", ""),
        "node.ip": node.get("Status", {}).get("Addr", ""),
    }
    if key.startswith("node.labels."):
        value = labels.get(key.removeprefix("node.labels."), "")
    elif key.startswith("engine.labels."):
        value = (description.get("Engine", {}).get("Labels") or {}).get(key.removeprefix("engine.labels."), "")
    else:
        value = plain.get(key.lower(), "")
    return (value.lower() == wanted.lower()) == (operator == "==")


def _judge_service(
    name: str, service: Object, tasks: Sequence[Object], nodes: Sequence[Object], context: Context
) -> ServiceVerdict:
    verdict = ServiceVerdict(name, is_job=any(kind.endswith("Job") for kind in service["Spec"]["Mode"]))
    ready = {node["ID"] for node in nodes if is_ready(node)}
    current = [task for task in tasks if is_current(task, service)]
    if verdict.is_job:
        current = [task for task in current if _iteration(task) == _iteration(service.get("JobStatus") or {})]
    running = [task for task in current if _runs(task) and task.get("NodeID") in ready]
    failed = [task for task in current if _failed(task) and _created(task) >= context.since]
    failures = Counter(_slot(task) for task in failed)
    verdict.failures, verdict.failing = len(failed), _latest(failed)
    verdict.wanted = wanted_tasks(service, tasks, nodes)
    verdict.running = len(running)
    verdict.starting = sum(1 for task in current if _is_wanted(task) and _starts(task))
    verdict.outdated = sum(1 for task in tasks if task["DesiredState"] == "running" and not is_current(task, service))
    verdict.stopping = sum(1 for task in tasks if _stops(task) and task.get("NodeID") in ready)
    verdict.completed = completed_tasks(service, current, is_job=verdict.is_job)
    verdict.settled = all(_has_settled(task, service, failures[_slot(task)], context) for task in running)

    reason = _update_failure(name, service, context)
    failing = _failing_tasks(service, failed, failures)
    if reason:
        verdict.state, verdict.reason = State.FAILED, reason
        # An update fails by tasks that end well, too: a server that is stopped as unhealthy may do that.
        ended = [*(task for task in tasks if _failed(task)), *_complete(tasks)]
        verdict.failing = _latest(task for task in ended if _created(task) >= context.since)
    elif _is_converged(verdict, service):
        verdict.state = State.CONVERGED
    elif failing:
        verdict.state, verdict.failing = State.FAILED, _latest(failing)
        verdict.reason = _failing_reason(failing)
    elif update_state(service) != "updating" and _ends(verdict, service, current):
        verdict.state, verdict.failing = State.FAILED, _latest(_ended_well(current))
        verdict.reason = (
            "its command ended with exit code 0, though a service that publishes ports should go on running"
        )
    else:
        verdict.reason = _waiting_reason(current)
    return verdict


def _is_converged(verdict: ServiceVerdict, service: Object) -> bool:
    if update_state(service) in ("updating", "rollback_started") or verdict.outdated or verdict.starting:
        return False
    if verdict.is_job:
        return verdict.completed >= verdict.wanted and verdict.running == 0
    return verdict.running <= verdict.wanted <= verdict.running + verdict.completed and verdict.settled


def _ends(verdict: ServiceVerdict, service: Object, current: Sequence[Object]) -> bool:
    """Return whether tasks ended well that should not have, and will not be started again."""
    may_end = verdict.is_job or not _publishes(service) or _restart(service) == "any"
    return not may_end and bool(_ended_well(current))


def wanted_tasks(service: Object, tasks: Sequence[Object], nodes: Sequence[Object]) -> int:
    """Return how many tasks of *service* shall run, or complete; *tasks* are its own."""
    mode = service["Spec"]["Mode"]
    if "Replicated" in mode:
        return int(mode["Replicated"].get("Replicas", 1))
    if "ReplicatedJob" in mode:
        job = mode["ReplicatedJob"] or {}
        return int(job.get("TotalCompletions") or job.get("MaxConcurrent") or 1)
    # A paused node keeps the task it has and gets no new one.
    held = {task.get("NodeID") for task in tasks if _is_wanted(task)}
    paused = {node["ID"] for node in nodes if node["Spec"].get("Availability") == "pause"}
    return sum(1 for node in eligible_nodes(service, nodes) if node not in paused or node in held)


def completed_tasks(service: Object, current: Sequence[Object], *, is_job: bool) -> int:
    """Return the completed tasks of a job, or the slots of a one-shot service that ended well and stay so."""
    if is_job:
        return len(_complete(current))
    if _restart(service) == "any" or _publishes(service):
        return 0
    return len({_slot(task) for task in _ended_well(current)})


def _ended_well(current: Sequence[Object]) -> list[Object]:
    """Return the completed tasks of slots that no other task has taken over.

    Others are history: a node that came back reports what ran on it when it lost power as completed.
    """
    alive = {_slot(task) for task in current if _is_wanted(task) and task["Status"]["State"] not in _ENDED}
    return [task for task in _complete(current) if _slot(task) not in alive]


def _iteration(holder: Object) -> int:
    return int((holder.get("JobIteration") or {}).get("Index", 0))


def _restart(service: Object) -> str:
    return str((service["Spec"]["TaskTemplate"].get("RestartPolicy") or {}).get("Condition") or "any")


def _publishes(service: Object) -> bool:
    return bool((service.get("Endpoint") or {}).get("Ports")) or is_proxied(service)


def _update_failure(name: str, service: Object, context: Context) -> str:
    state = update_state(service)
    message = (service.get("UpdateStatus") or {}).get("Message", "")
    if state in ("paused", "rollback_paused"):
        return f"its {'rollback' if state.startswith('rollback') else 'update'} is paused: {message}"
    if not state.startswith("rollback"):
        return ""
    # A rollback that ended in what was deployed undid somebody else's update.
    is_deployed = context.deployed is not None and context.deployed.get(name) == spec_digest(service)
    return "" if is_deployed else f"the update was rolled back, so the version before runs: {message}"


def _failing_tasks(service: Object, failed: Sequence[Object], failures: Mapping[Any, int]) -> list[Object]:
    """Return the failed tasks of slots that failed too often, or those whose node lacks the image."""
    if missing := _without_image(failed):
        return missing
    attempts = (service["Spec"]["TaskTemplate"].get("RestartPolicy") or {}).get("MaxAttempts") or FAILURES_ALLOWED
    allowed = 1 if _restart(service) == "none" else min(FAILURES_ALLOWED, attempts + 1)
    return [task for task in failed if failures[_slot(task)] >= allowed]


def _failing_reason(failing: Sequence[Object]) -> str:
    if _without_image(failing):
        return "a node has not got its image"
    if all(is_killed_while_starting(task) for task in failing):
        return "its tasks are stopped while they start, unhealthy before they ever answered"
    return "its tasks keep failing"


def _without_image(failed: Iterable[Object]) -> list[Object]:
    return [task for task in failed if "No such image" in task["Status"].get("Err", "")]


def _has_settled(task: Object, service: Object, failures: int, context: Context) -> bool:
    # A slot that has failed must stay up for longer, or a command that ends after five seconds would pass.
    needed = context.settle_seconds * (1 + 2 * failures)
    if context.seen_running.get(task["ID"], 0.0) >= needed:
        return True
    times = [parse_time(task["UpdatedAt"])]
    if update_state(service) != "completed":  # swarm may not have begun the update that a change just now calls for
        times.append(parse_time(service["UpdatedAt"]))
    return (context.now - max(times)).total_seconds() >= needed


def _waiting_reason(current: Iterable[Object]) -> str:
    """Return why swarm does not start a task: what it says of one, such as no suitable node."""
    for task in current:
        if task["Status"]["State"] == "pending" and task["Status"].get("Err"):
            return str(task["Status"]["Err"])
    return ""


def _slot(task: Object) -> Any:
    return task.get("Slot") or task.get("NodeID", "")


def _created(task: Object) -> datetime:
    return parse_time(task["CreatedAt"])


def _complete(tasks: Iterable[Object]) -> list[Object]:
    return [task for task in tasks if task["Status"]["State"] == "complete"]


def _failed(task: Object) -> bool:
    return task["Status"]["State"] in ("failed", "rejected")


def _is_wanted(task: Object) -> bool:
    return task["DesiredState"] in ("running", "complete")  # complete: the desired state of a job's tasks


def _runs(task: Object) -> bool:
    return task["Status"]["State"] == "running" and _is_wanted(task)


def _starts(task: Object) -> bool:
    return task["Status"]["State"] not in ("running", *_ENDED)


def _stops(task: Object) -> bool:
    return task["Status"]["State"] == "running" and task["DesiredState"] in ("shutdown", "remove")


def _latest(tasks: Iterable[Object]) -> list[Object]:
    return sorted(tasks, key=lambda task: task["CreatedAt"], reverse=True)
