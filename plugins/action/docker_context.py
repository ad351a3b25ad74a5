# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Point Docker clients at a cluster, and take it back; see the module of the same name for its documentation."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils import docker_context
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_context import Store
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.files import private_directory, write_private
from ansible_collections.apiary.swarm.plugins.modules.docker_context import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Write what differs, or remove what is there."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        name, cluster = params["name"], params["cluster"]
        if problem := docker_context.name_problem(name):
            raise ApiaryError(f"access_context is {name!r}: the name of a context {problem}")
        store = Store(Path(params["config_directory"]).expanduser())
        directory = Path(params["directory"]).expanduser()
        owner = store.owner(name)
        if params["state"] == "absent":
            return self._absent(store, name, directory, is_ours=owner == cluster)
        if owner not in (None, cluster):
            whose = f"of the cluster {owner}" if owner else "that Apiary has not made"
            raise ApiaryError(
                f"access_context is {name!r}, and there is a context {whose} of that name in {store.directory}: choose "
                f"another name, or remove it (docker context rm {name})"
            )
        return self._present(store, name, cluster, params["docker"], directory)

    def _present(
        self, store: Store, name: str, cluster: str, docker: Mapping[str, Any], directory: Path
    ) -> dict[str, Any]:
        if not docker.get("docker_host"):
            raise ApiaryError("docker_context was given no endpoint: no manager is reached, see playbooks/status.yml")
        wanted, found = store.wanted(name, cluster, docker), store.files(name)
        shells = {directory / file: content for file, content in docker_context.shell_files(docker).items()}
        actions = [f"write the context {name}"] if wanted != found else []
        stale = [path for path, content in shells.items() if not path.exists() or path.read_bytes() != content]
        actions += [f"write {path}" for path in stale]
        if not self._task.check_mode:
            _write(store, name, wanted, found)
            for path in stale:
                private_directory(path.parent)
                write_private(path, shells[path])
        report = [
            f"The Docker context {name} leads to {docker['docker_host']}:",
            f"  docker --context {name} node ls",
            "",
            "To point one shell at it without a context:",
            *docker_context.shell_help(directory, docker),
            "",
            "playbooks/access.yml -e access_state=absent takes the context back.",
        ]
        return {"changed": bool(actions), "actions": actions, "cluster_report": "\n".join(report)}

    def _absent(self, store: Store, name: str, directory: Path, *, is_ours: bool) -> dict[str, Any]:
        actions = []
        if is_ours:
            actions.append(f"remove the context {name}")
            if store.current() == name:
                actions.append("let the client use its own context by default")
        if directory.exists():
            actions.append(f"remove {directory}")
        if not self._task.check_mode:
            if is_ours:
                if store.current() == name:
                    write_private(store.directory / "config.json", store.without_current())
                shutil.rmtree(store.tls_directory(name).parent, ignore_errors=True)
                shutil.rmtree(store.meta_path(name).parent)
                store.drop_empty_directories(name)
            if directory.exists():
                shutil.rmtree(directory)
                with suppress(OSError):  # the directory of the cluster, where it holds nothing else
                    directory.parent.rmdir()
        if not actions:
            return {"changed": False, "actions": []}
        report = ["To take it back in a shell that was pointed at the cluster:"]
        for shell in ("sh", "fish", "PowerShell"):
            report += [f"  {shell}:", *(f"    {line}" for line in docker_context.unset_lines(shell))]
        return {"changed": True, "actions": actions, "cluster_report": "\n".join(report)}


def _write(store: Store, name: str, wanted: Mapping[Path, bytes], found: Mapping[Path, bytes]) -> None:
    """Write keys before the context that names them, and remove what it no longer has."""
    try:
        for path in sorted(wanted, key=lambda path: path == store.meta_path(name)):
            if found.get(path) != wanted[path]:
                private_directory(path.parent)
                write_private(path, wanted[path], 0o644 if path.name == "meta.json" else 0o600)
        for path in set(found) - set(wanted):
            path.unlink()
        if set(found) - set(wanted):
            store.drop_empty_directories(name)
    except OSError as error:
        raise ApiaryError(
            f"cannot write the context {name} to {store.directory}: {error}. Set access_docker_config, or "
            "DOCKER_CONFIG, to a directory of yours"
        ) from error
