# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have images on a node; see the module of the same name for its documentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.image_build import TIMEOUT_SECONDS, load, present
from ansible_collections.apiary.swarm.plugins.module_utils.image_cache import ImageCache
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import Base, Image, bases_of, images_of
from ansible_collections.apiary.swarm.plugins.modules.image_present import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Ask the node once; load only what it lacks."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        images = images_of(params)
        wanted = [image.reference for image in images]
        try:
            with connect(params["docker"]) as api:
                have = present(api, [*wanted, *(base.reference for base in bases_of(images))])
        except ApiaryError:
            if not self._task.check_mode:
                raise
            have = set()  # before the first run there is no engine yet
        lacking = [image for image in images if image.reference not in have]
        if not lacking:
            return {"changed": False, "loaded": [], "missing": []}
        to_load: Sequence[Base | Image] = [
            *(base for base in bases_of(lacking) if base.reference not in have),
            *lacking,
        ]
        if self._task.check_mode:
            return self._result(wanted, have, [item.reference for item in to_load], [])
        loaded, missing = self._load(
            params, to_load, task_vars.get("inventory_hostname", params["docker"]["docker_host"])
        )
        if missing and not params["missing_ok"]:
            raise ApiaryError(
                f"neither this node nor {params['cache_dir']} has {', '.join(missing)}: "
                "run playbooks/images.yml, which builds what is missing"
            )
        return self._result(wanted, have, loaded, missing)

    def _load(self, params: dict[str, Any], items: Sequence[Base | Image], node: str) -> tuple[list[str], list[str]]:
        cache = ImageCache(Path(params["cache_dir"]))
        loaded: list[str] = []
        missing: list[str] = []
        with connect(params["docker"], timeout_seconds=TIMEOUT_SECONDS) as api:
            for item in items:
                base_reference = item.our_base_reference if isinstance(item, Image) else ""
                if base_reference in missing or not cache.sound(item.reference, base_reference):
                    if cache.has(item.reference):
                        Display().warning(
                            f"{cache.path(item.reference)} is damaged, or built on what is gone: it is made again"
                        )
                    missing.append(item.reference)
                    continue
                Display().display(f"  {node}: loading {item.reference}")
                if load(api, item.reference, cache, node, base_reference):
                    loaded.append(item.reference)
        return loaded, missing

    def _result(self, wanted: list[str], have: set[str], loaded: list[str], missing: list[str]) -> dict[str, Any]:
        before = [reference for reference in wanted if reference in have]
        after = [reference for reference in wanted if reference in have or reference in loaded]
        diff = {"diff": {"before": {"images": before}, "after": {"images": after}}} if self._task.diff else {}
        return {"changed": bool(loaded), "loaded": loaded, "missing": missing, **diff}
