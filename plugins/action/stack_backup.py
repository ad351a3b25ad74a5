# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Copy what services keep to the controller; see the module of the same name for its documentation."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker.errors
from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import stack
from ansible_collections.apiary.swarm.plugins.module_utils import stack_backup as backups
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.container_exec import execute
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.stack_backup import Entry, Kept
from ansible_collections.apiary.swarm.plugins.module_utils.swarm_hosts import host_of
from ansible_collections.apiary.swarm.plugins.modules.stack_backup import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Have each service save its data, and put the copies into one file."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        with connect(params["docker"]) as api:
            filters = {"label": [f"{stack.NAMESPACE_LABEL}={params['name']}"]}
            services = stack.services_of(api.services(filters=filters), params["name"])
            tasks, nodes = api.tasks(filters=filters), {node["ID"]: node for node in api.nodes()}
        wanted = backups.kept(services, params["services"], params["name"])
        places = {kept.name: _place(params, kept, tasks, nodes) for kept in wanted}
        path = _path(params)
        names = [kept.name for kept in wanted]
        if self._task.check_mode:
            return {"changed": False, "msg": f"{', '.join(names)} would be copied to {path}", "file": str(path)}
        entries = [_save(params, kept, *places[kept.name]) for kept in wanted]
        now = int(time.time())
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        sizes = {}
        with backups.writing(path, backups.manifest_of(params["name"], created, now, entries)) as archive:
            for kept in wanted:
                with tempfile.TemporaryFile() as copied:
                    _copy(params, kept, *places[kept.name], copied)
                    sizes[kept.name] = backups.add(archive, kept, copied)
        saved = {entry.name: {"bytes": sizes[entry.name], "contents": entry.contents} for entry in entries}
        said = [f"{name}: {entry['contents'] or str(entry['bytes']) + ' bytes'}" for name, entry in saved.items()]
        return {"changed": False, "file": str(path), "services": saved, "msg": f"{path} holds {'; '.join(said)}"}


def _path(params: Mapping[str, Any]) -> Path:
    if params["file"]:
        path = Path(params["file"]).absolute()
    else:
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        path = Path(params["directory"]).absolute() / f"{params['name']}-{moment}{backups.SUFFIX}"
    if path.exists():
        raise ApiaryError(f"{path} is there already, and a backup overwrites nothing: give backup_file another name")
    return path


def _place(params: Mapping[str, Any], kept: Kept, tasks: Any, nodes: Mapping[str, Any]) -> tuple[str, str]:
    """Return the host that a service runs on, and its container there."""
    task = backups.running(tasks, kept.service_id)
    if task is None:
        raise ApiaryError(
            f"{kept.name} does not run, so it cannot save its data: 'docker service ps {params['name']}_{kept.name}' "
            "shows why"
        )
    host = host_of(params["endpoints"], nodes[task["NodeID"]], f"the data of {kept.name}")
    return host, task["Status"]["ContainerStatus"]["ContainerID"]


def _save(params: Mapping[str, Any], kept: Kept, host: str, container: str) -> Entry:
    contents = ""
    with connect(params["endpoints"][host], params["timeout_seconds"]) as api:
        for label, command in ((backups.SAVE_LABEL, kept.save), (backups.CHECK_LABEL, kept.check)):
            if not command:
                continue
            Display().display(f"  {kept.name} on {host}: {' '.join(command)}")
            status, contents = execute(api, container, command)
            if status != 0:
                raise ApiaryError(
                    f"nothing was backed up: {kept.name} on {host} ended {' '.join(command)} ({label}) with exit "
                    f"status {status}: {contents or 'no message'}"
                )
    return Entry(kept.name, kept.image, kept.path, contents if kept.check else "")


def _copy(params: Mapping[str, Any], kept: Kept, host: str, container: str, output: Any) -> None:
    with connect(params["endpoints"][host], params["timeout_seconds"]) as api:
        try:
            stream, _stat = api.get_archive(container, kept.in_container)
        except docker.errors.NotFound as error:
            raise ApiaryError(
                f"nothing was backed up: {kept.name} on {host} has no {kept.in_container}, which its label "
                f"{backups.COPY_LABEL} names ({error.explanation})"
            ) from error
        for chunk in stream:
            output.write(chunk)
    output.seek(0)
