# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have the archive of the image base in the cache; see the module of the same name for its documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.image_build import bootstrap
from ansible_collections.apiary.swarm.plugins.module_utils.image_cache import ImageCache
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import bases_of, images_of
from ansible_collections.apiary.swarm.plugins.modules.image_bootstrap import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Make what the given images are built on."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        cache = ImageCache(Path(params["cache_dir"]))
        bases = bases_of(images_of(params))
        archives = [str(cache.path(base.reference)) for base in bases]
        if self._task.check_mode:
            return {"changed": not all(cache.has(base.reference) for base in bases), "archives": archives}
        made = []
        for base in bases:
            if not cache.sound(base.reference):
                Display().display(
                    f"  making {base.reference} from Debian {base.debian_suite} and {base.directory}, once"
                )
                made.append(bootstrap(base, cache))
        return {"changed": any(made), "archives": archives}
