# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Remove from the cache what nobody needs; see the module of the same name for its documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils import cache_prune, qemu_snapshot
from ansible_collections.apiary.swarm.plugins.module_utils.accelerator import choose_accelerator
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.image_cache import ImageCache
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import bases_of, images_of
from ansible_collections.apiary.swarm.plugins.modules.cache_prune import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Look at everything, remove what is neither used nor wanted, and count."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        machines, archives = Path(params["cache_directory"]), Path(params["images"]["cache_dir"])
        cache, images = ImageCache(archives), images_of(params["images"])
        found = cache_prune.superfluous(
            machines,
            archives,
            image=Path(params["machine_image"]),
            snapshot_keys=_keys(params),
            archives_kept={
                *(cache.path(image.reference) for image in images),
                *(cache.path(base.reference) for base in bases_of(images)),
            },
        )
        before = sum(qemu_snapshot.disk_usage(directory) for directory in (machines, archives))
        removed = [] if not self._task.check_mode else found
        for item in [] if self._task.check_mode else found:
            with cache_prune.free(item.lock) as free:
                if free:  # otherwise somebody is making it just now
                    item.remove()
                    removed.append(item)
        after = before - sum(item.bytes for item in removed)
        lines = [f"{item.path} ({item.bytes >> 20} MiB)" for item in removed]
        diff = {"diff": {"before": "".join(f"{line}\n" for line in lines), "after": ""}} if self._task.diff else {}
        return {"changed": bool(removed), "removed": lines, "bytes_before": before, "bytes_after": after, **diff}


def _keys(params: dict[str, Any]) -> set[str]:
    image = Path(params["machine_image"])
    if not image.exists():
        return set()  # no snapshot of it can be there
    keys = set()
    for machine in params["machines"]:
        options = {**machine, "cache_directory": params["cache_directory"], "image": str(image)}
        choice = choose_accelerator(
            machine["accelerator"],
            image,
            machine["cpu_model"],
            Path(params["cache_directory"]),
            cpus=machine["cpus"],
        )
        keys.add(qemu_snapshot.recipe({**options, "boot_timeout_seconds": 0}, choice.accelerator).key)
    return keys
