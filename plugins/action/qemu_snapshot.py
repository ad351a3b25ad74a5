# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have a golden snapshot; see the module of the same name for its documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import qemu_snapshot
from ansible_collections.apiary.swarm.plugins.module_utils.accelerator import choose_accelerator
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.modules.qemu_snapshot import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Build what is not there, or not as it was built."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        image = Path(params["image"])
        if self._task.check_mode and not image.exists():  # nor can it be told which accelerator works
            return {"changed": True, "directory": "", "bytes": 0}
        choice = choose_accelerator(
            params["accelerator"],
            image,
            params["cpu_model"],
            Path(params["cache_directory"]),
            cpus=params["cpus"],
        )
        recipe = qemu_snapshot.recipe(params, choice.accelerator)
        if self._task.check_mode:
            golden = recipe.link.resolve()
            built = bool(qemu_snapshot.problem(golden))
        else:
            golden, built = qemu_snapshot.ensure(recipe, say=Display().display, warn=Display().warning)
        return {"changed": built, "directory": str(golden), "bytes": qemu_snapshot.disk_usage(golden)}
