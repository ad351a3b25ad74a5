# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Put back what services kept when a backup was made; see the module of the same name for its documentation."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import docker.errors
from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import node_programs, stack
from ansible_collections.apiary.swarm.plugins.module_utils import stack_backup as backups
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.container_exec import execute
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect, scale
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.files import lock, private_directory
from ansible_collections.apiary.swarm.plugins.module_utils.stack_backup import Entry, Kept
from ansible_collections.apiary.swarm.plugins.module_utils.stack_data import BEFORE
from ansible_collections.apiary.swarm.plugins.module_utils.swarm_hosts import host_of
from ansible_collections.apiary.swarm.plugins.module_utils.task_errors import describe
from ansible_collections.apiary.swarm.plugins.modules.stack_restore import ARGUMENT_SPEC

_POLL_SECONDS = 0.5
_LOGS_SECONDS = 5


@dataclass(frozen=True)
class _Job:
    """The restore of one service."""

    kept: Kept
    entry: Entry
    host: str
    #: how many tasks it is to have again
    replicas: int

    @property
    def directory(self) -> PurePosixPath:
        return PurePosixPath(self.kept.source)


class ActionModule(ApiaryAction):
    """Put the data of a backup beside what is there, exchange the two while the service is stopped, and look at it."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        path = _path(params)
        entries = backups.chosen(backups.read(path, params["name"]), params["services"], path)
        jobs = _jobs(params, entries)
        done = {job.kept.name: {"contents": job.entry.contents} for job in jobs}
        result = {"changed": True, "file": str(path), "services": done}
        made = backups.created(path)
        if self._task.check_mode:
            return {**result, "msg": f"{', '.join(done)} would be as of {made}"}
        # Ansible's workers outlive a run that is killed, and go on with what they do.
        with lock(private_directory(Path(params["directory"])) / f".{params['name']}.restoring"):
            jobs = _jobs(params, entries)  # another run may have been at work on these services until now
            moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            for job in jobs:
                done[job.kept.name]["now"] = _Restore(params, job, path, moment).run()
        said = "; ".join(f"{name}: {entry['now'] or 'runs'}" for name, entry in done.items())
        kept = ", ".join(f"{job.kept.source}{BEFORE}-{moment} on {job.host}" for job in jobs)
        return {**result, "msg": f"as of {made}: {said}. What was there before is in {kept}"}


def _path(params: Mapping[str, Any]) -> Path:
    if not params["file"]:
        return backups.newest(Path(params["directory"]).absolute(), params["name"])
    path = Path(params["file"]).absolute()
    if not path.is_file():
        raise ApiaryError(f"backup_file is {path}, and there is no such file")
    return path


def _jobs(params: Mapping[str, Any], entries: list[Entry]) -> list[_Job]:
    """Return what there is to do, with all that could stand in its way found first."""
    with connect(params["docker"]) as api:
        filters = {"label": [f"{stack.NAMESPACE_LABEL}={params['name']}"]}
        services = stack.services_of(api.services(filters=filters), params["name"])
        tasks, nodes = api.tasks(filters=filters), api.nodes()
    jobs = []
    names = [entry.name for entry in entries]
    for kept, entry in zip(backups.kept(services, names, params["name"]), entries, strict=True):
        service = services[kept.name]
        if "Replicated" not in service["Spec"]["Mode"]:
            raise ApiaryError(f"{kept.name} runs on every node, and each has data of its own: put it back by hand")
        node = backups.node_of_data(service, tasks, nodes)
        if node is None:
            raise ApiaryError(
                f"it is not known which node has the data of {kept.name}, as it never ran: see "
                f"'docker service ps {params['name']}_{kept.name}'"
            )
        host = host_of(params["endpoints"], node, f"the data of {kept.name}")
        jobs.append(_Job(kept, entry, host, _replicas(service)))
    return jobs


def _replicas(service: Mapping[str, Any]) -> int:
    """Return how many tasks a service has, or had before a restore stopped it that was interrupted."""
    modes = (spec.get("Mode") or {} for spec in (service["Spec"], service.get("PreviousSpec") or {}))
    counts = ((mode.get("Replicated") or {}).get("Replicas") for mode in modes)
    return next(filter(None, counts), 1)


class _Restore:
    """One service, from its backup."""

    def __init__(self, params: Mapping[str, Any], job: _Job, path: Path, moment: str) -> None:
        self.params = params
        self.job = job
        self.path = path
        self.moment = moment
        self.service = f"{params['name']}_{job.kept.name}"

    def run(self) -> str:
        """Return what the service says of its data afterwards; where it does not run with it, the old data is back."""
        self._prepare()
        self._tell("stopping it")
        self._scale(0)
        try:
            self._wait("stop", lambda tasks: all(map(backups.is_over, tasks)))
            self._on_node("exchange the data", backups.EXCHANGE)
        except ApiaryError:
            self._scale(self.job.replicas)
            raise
        self._tell("starting it with the data of the backup")
        try:
            return self._started()
        except ApiaryError as error:
            self._tell("does not run with that: putting back what was there before")
            self._scale(0)
            self._wait("stop", lambda tasks: all(map(backups.is_over, tasks)))
            self._on_node("put back what was there before", backups.UNDO)
            self._scale(self.job.replicas)
            raise ApiaryError(
                f"{self.service} has the data again that it had before. With that of {self.path}: {error}"
            ) from error

    def _tell(self, what: str) -> None:
        Display().display(f"  {self.service} on {self.job.host}: {what}")

    def _prepare(self) -> None:
        self._tell(f"putting the data of {self.path.name} beside what is there")
        with tempfile.TemporaryFile() as files:
            backups.files_of(self.path, self.job.kept.name, f"{node_programs.HOME}/files", files)
            self._on_node("put the data there", backups.PREPARE, files)

    def _on_node(self, what: str, script: str, files: Any = b"") -> None:
        directory, seconds = self.job.directory, self.params["timeout_seconds"]
        with connect(self.params["endpoints"][self.job.host], seconds) as api:
            try:
                status, output = node_programs.run(
                    api,
                    f"apiary-restore-{self.service}",
                    ["sh", "-c", script, "sh", directory.name, self.moment],
                    binds={str(directory.parent): "/data"},
                    files=files,
                    timeout_seconds=seconds,
                )
            except docker.errors.APIError as error:
                status, output = -1, str(error.explanation or error)
        if status != 0:
            reason = output.strip() or f"exit status {status}"
            raise ApiaryError(f"cannot {what} in {directory} on {self.job.host}: {reason}")

    def _scale(self, replicas: int) -> None:
        with connect(self.params["docker"]) as api:
            scale(api, self.job.kept.service_id, replicas)

    def _tasks(self) -> list[Mapping[str, Any]]:
        with connect(self.params["docker"]) as api:
            tasks: list[Mapping[str, Any]] = api.tasks(filters={"service": self.job.kept.service_id})
            return tasks

    def _wait(self, what: str, condition: Callable[[list[Mapping[str, Any]]], Any]) -> Any:
        deadline = time.monotonic() + self.params["timeout_seconds"]
        while not (found := condition(self._tasks())):
            if time.monotonic() > deadline:
                limit = f"{self.params['timeout_seconds']} s (backup_timeout_seconds)"
                raise ApiaryError(f"{self.service} did not {what} in {limit}{self._reason()}")
            time.sleep(_POLL_SECONDS)
        return found

    def _reason(self) -> str:
        last = max(self._tasks(), key=lambda task: str(task["CreatedAt"]), default=None)
        return f":\n{self._told(last)}" if last else ""

    def _told(self, task: Mapping[str, Any]) -> str:
        """Return why a task failed, and the end of its log where there is one."""
        logs = b""
        with suppress(ApiaryError), connect(self.params["docker"], _LOGS_SECONDS) as api:
            url = api._url("/tasks/{0}/logs", task["ID"])
            logs = api.get(url, params={"stdout": 1, "stderr": 1, "tail": 5}).content
        return "\n".join(describe(self.job.kept.name, task, {task.get("NodeID", ""): self.job.host}, logs))

    def _started(self) -> str:
        """Start the service, wait until a task of it runs, which it does when it is healthy, and look at its data."""
        before = {task["ID"] for task in self._tasks()}
        self._scale(self.job.replicas)

        def new(tasks: list[Mapping[str, Any]]) -> Mapping[str, Any] | None:
            fresh = [task for task in tasks if task["ID"] not in before]
            if failed := [task for task in fresh if task["Status"]["State"] in ("failed", "rejected")]:
                raise ApiaryError(f"it fails:\n{self._told(failed[0])}")
            return backups.running(fresh, self.job.kept.service_id)

        task = self._wait("start", new)
        if not self.job.kept.check:
            return ""
        command = [*self.job.kept.check, *([self.job.entry.contents] if self.job.entry.contents else [])]
        with connect(self.params["endpoints"][self.job.host], self.params["timeout_seconds"]) as api:
            status, output = execute(api, task["Status"]["ContainerStatus"]["ContainerID"], command)
        if status != 0:
            raise ApiaryError(
                f"{' '.join(command)} ended with exit status {status}: the backup had '{self.job.entry.contents}', and "
                f"there is '{output}'"
            )
        return output
