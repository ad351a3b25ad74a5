# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Wait until a stack runs as it was deployed; see the module of the same name for its documentation."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import docker.errors
import requests.exceptions
from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import stack
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.convergence import (
    Context,
    ServiceVerdict,
    State,
    health_seconds,
    judge,
    overall,
    parse_time,
)
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect, persistently
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.task_errors import describe
from ansible_collections.apiary.swarm.plugins.modules.stack_wait import ARGUMENT_SPEC

_POLL_SECONDS = 0.7
#: once all is in place, the tasks that were replaced are given so long to end
_STOPPING_SECONDS = 15.0


class ActionModule(ApiaryAction):
    """Ask the manager until the verdict is in."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"changed": False}
        with connect(params["docker"]) as api:
            verdicts = _Watch(api, params).until_done()
        return {
            "changed": False,
            "services": {
                name: {
                    "state": verdict.state.value,
                    "wanted": verdict.wanted,
                    "running": verdict.running,
                    "completed": verdict.completed,
                }
                for name, verdict in verdicts.items()
            },
        }


class _Watch:
    """One wait, over one connection."""

    def __init__(self, api: Any, params: Mapping[str, Any]) -> None:
        self.api = api
        self.name: str = params["name"]
        self.params = params
        self.filters = {"label": [f"{stack.NAMESPACE_LABEL}={self.name}"]}
        self.running_since: dict[str, float] = {}
        self.shown: dict[str, str] = {}
        self.nodes: list[Mapping[str, Any]] = []
        self.tasks: list[Mapping[str, Any]] = []

    def until_done(self) -> dict[str, ServiceVerdict]:
        """Return the verdicts when all services converged; raises ApiaryError when one failed or time is up."""
        limit = self.params["timeout_seconds"]
        started_at = parse_time(persistently(self.api.info, limit)["SystemTime"])
        started = time.monotonic()
        since = parse_time(self.params["since"]) if self.params["since"] else started_at
        label = {"label": [f"{stack.RECORD_LABEL}={self.name}"]}
        record = stack.newest_record(persistently(lambda: self.api.configs(filters=label), limit))
        in_place_since = None
        most_in_place, progress_at = 0, 0.0

        def look() -> dict[str, ServiceVerdict]:
            now = started_at + timedelta(seconds=time.monotonic() - started)
            return self._look(now, since, record.services if record else None)

        while True:
            # A manager that has too much to do is silent for a while, and this is what gave it that to do.
            verdicts = persistently(look, limit - (time.monotonic() - started - progress_at))
            elapsed = time.monotonic() - started
            state = overall(verdicts.values())
            if state is State.FAILED:
                raise self._failure(verdicts, "does not run as it was deployed")
            if state is State.CONVERGED:
                in_place_since = in_place_since or elapsed
                stopping = any(verdict.stopping for verdict in verdicts.values())
                if not stopping or elapsed - in_place_since > _STOPPING_SECONDS:
                    return verdicts
            in_place = sum(verdict.running + verdict.completed for verdict in verdicts.values())
            if in_place > most_in_place:
                most_in_place, progress_at = in_place, elapsed
            if elapsed - progress_at > max(limit, self._starting_seconds()) and state is State.WAITING:
                raise self._failure(
                    verdicts, f"is not complete, and has made no progress for {elapsed - progress_at:.0f} seconds"
                )
            self._show(verdicts.values())
            time.sleep(_POLL_SECONDS)

    def _starting_seconds(self) -> float:
        """For how long the health checks of what is starting may fail before the swarm itself gives a task up."""
        starting = [task for task in self.tasks if task["Status"]["State"] == "starting"]
        return max((health_seconds(task) for task in starting), default=0.0)

    def _look(self, now: datetime, since: datetime, deployed: Mapping[str, str] | None) -> dict[str, ServiceVerdict]:
        services = stack.services_of(self.api.services(filters=self.filters), self.name)
        if not services and self.params["missing_ok"]:
            return {}
        if not services:
            raise ApiaryError(f"there is no stack {self.name} in the swarm: deploy it with playbooks/stack.yml")
        self.tasks = self.api.tasks(filters=self.filters)
        self.nodes = self.api.nodes()
        clock = time.monotonic()
        running = [task["ID"] for task in self.tasks if task["Status"]["State"] == "running"]
        self.running_since = {task: self.running_since.get(task, clock) for task in running}
        seen_running = {task: clock - first for task, first in self.running_since.items()}
        context = Context(now, since, self.params["settle_seconds"], seen_running, deployed)
        return judge(services, self.tasks, self.nodes, context)

    def _show(self, verdicts: Iterable[ServiceVerdict]) -> None:
        """Show a line for each service whose state changed."""
        for verdict in verdicts:
            if self.shown.get(verdict.name, "") != verdict.progress:
                self.shown[verdict.name] = verdict.progress
                Display().display(f"  {verdict.progress}")

    def _failure(self, verdicts: Mapping[str, ServiceVerdict], what: str) -> ApiaryError:
        names = {node["ID"]: node.get("Description", {}).get("Hostname", node["ID"]) for node in self.nodes}
        lines = [f"stack {self.name} {what}"]
        for verdict in verdicts.values():
            if verdict.state is State.CONVERGED:
                continue
            lines.append(f"- {verdict.progress}")
            for task in verdict.failing[:1]:
                lines += [f"    {line}" for line in describe(verdict.name, task, names, self._logs(task))]
        return ApiaryError("\n".join(lines))

    def _logs(self, task: Mapping[str, Any]) -> bytes:
        """Return the task's last log lines as the engine frames them; none where its node does not answer in time."""
        url = self.api._url("/tasks/{0}/logs", task["ID"])
        wanted = {"stdout": 1, "stderr": 1, "tail": self.params["log_lines"]}
        try:
            return self.api.get(url, params=wanted, timeout=5).content
        except (docker.errors.APIError, requests.exceptions.RequestException):
            return b""
