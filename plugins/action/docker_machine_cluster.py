# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Remove all machines of a cluster; see the module of the same name for its documentation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible_collections.apiary.swarm.plugins.action.docker_machine import remove
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_machine import Tool, stores
from ansible_collections.apiary.swarm.plugins.modules.docker_machine_cluster import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Remove the machines that were made for the cluster, and those that were adopted."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        storage = Path(params["storage_path"]).expanduser().absolute()
        named, own, foreign = set(params["names"]), [], []
        for store in stores(storage):
            if params["only_named"] and store.name not in named:
                continue
            # what has no configuration is what a create that was killed has left
            if store.cluster == params["cluster"] or (store.name in named and (params["adopt"] or not store.config())):
                own.append(store)
            elif store.name in named:
                foreign.append(store.name)
        removed = [store.name for store in own]
        result: dict[str, Any] = {"changed": bool(own), "removed": removed, "foreign": foreign}
        if self._task.diff and removed:
            result["diff"] = {"before": "".join(f"machine {name}\n" for name in removed), "after": ""}
        if self._task.check_mode or not own:
            return result
        tool = Tool(params["executable"], storage)
        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(lambda store: remove(tool, store, params["timeout_seconds"]), own))
        return result
