# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Remove all container nodes of a cluster; see the module of the same name for its documentation."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker.errors

from ansible_collections.apiary.swarm.plugins.module_utils import containers
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.names import check_cluster
from ansible_collections.apiary.swarm.plugins.modules.container_cluster import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Remove containers, volumes, network and files, and prove that nothing is left."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        directory = Path(params["cluster_directory"])
        cluster = params["cluster"]
        check_cluster(cluster)
        with containers.outer_engine(params["engine"]) as api:
            left = _look(api, cluster)
            removed = _in_words(left) + ([str(directory)] if directory.exists() else [])
            result: dict[str, Any] = {"changed": bool(removed), "removed": removed}
            if self._task.diff and removed:
                result["diff"] = {"before": "".join(f"{name}\n" for name in removed), "after": ""}
            if self._task.check_mode:
                return result
            with ThreadPoolExecutor(max_workers=8) as pool:
                list(pool.map(lambda item: containers.remove(api, item["Id"]), left["containers"]))
            for volume in left["volumes"]:
                api.remove_volume(volume["Name"], force=True)
            for network in left["networks"]:
                _remove_network(api, network["Id"])
            if still := _in_words(_look(api, cluster)):
                raise ApiaryError(f"still there after their removal: {', '.join(still)}. Run again")
        if directory.exists():
            if any(directory.iterdir()) and not any((directory / own).exists() for own in ("pki", "machines", "lock")):
                raise ApiaryError(
                    f"{directory} holds files, but none of a cluster: it is left alone. "
                    "Is container_machine_state_dir right?"
                )
            shutil.rmtree(directory)
        return result


def _look(api: Any, cluster: str) -> dict[str, list[dict[str, Any]]]:
    """Return all that carries the cluster's label."""
    own = {"label": f"{containers.CLUSTER_LABEL}={cluster}"}
    return {
        "containers": containers.find(api, cluster),
        "volumes": api.volumes(filters=own)["Volumes"] or [],
        "networks": api.networks(filters=own),
    }


def _in_words(left: dict[str, list[dict[str, Any]]]) -> list[str]:
    return [
        *sorted(f"container {item['Names'][0].lstrip('/')}" for item in left["containers"]),
        *sorted(f"volume {item['Name']}" for item in left["volumes"]),
        *sorted(f"network {item['Name']}" for item in left["networks"]),
    ]


def _remove_network(api: Any, network: str) -> None:
    with suppress(docker.errors.NotFound):
        api.remove_network(network)
