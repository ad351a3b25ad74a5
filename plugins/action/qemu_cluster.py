# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Remove all QEMU machines of a cluster; see the module of the same name for its documentation."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils import qemu
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.names import check_cluster
from ansible_collections.apiary.swarm.plugins.modules.qemu_cluster import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """End the machines, remove their files, and prove that nothing is left."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        directory = Path(params["cluster_directory"])
        check_cluster(directory.name)
        machines = sorted(path for path in directory.glob("machines/*") if path.is_dir())
        cache = Path(params["cache_directory"])
        result: dict[str, Any] = {
            "changed": directory.exists(),
            "removed": [path.name for path in machines],
            "kept": f"{cache} (image cache, {_used_bytes(cache) >> 20} MiB)" if cache.exists() else "nothing",
        }
        if self._task.diff and directory.exists():
            result["diff"] = {"before": "".join(f"{name}\n" for name in [*result["removed"], directory]), "after": ""}
        if directory.exists() and not self._task.check_mode:
            if not (directory / "pki").exists() and not (directory / "machines").exists() and any(directory.iterdir()):
                raise ApiaryError(
                    f"{directory} holds files, but none of a cluster: it is left alone. "
                    "Is qemu_machine_state_dir right?"
                )
            with ThreadPoolExecutor(max_workers=20) as pool:
                list(pool.map(lambda path: qemu.stop(path, graceful=False), machines))
            if left := qemu.processes(directory):
                raise ApiaryError(
                    f"QEMU processes of {directory} did not end: {', '.join(map(str, left))}. "
                    "End them by hand and run again."
                )
            shutil.rmtree(directory)
        return result


def _used_bytes(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())
