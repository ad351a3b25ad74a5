# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have the archives of images in the cache; see the module of the same name for its documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.image_build import TIMEOUT_SECONDS, build
from ansible_collections.apiary.swarm.plugins.module_utils.image_cache import ImageCache
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import images_of
from ansible_collections.apiary.swarm.plugins.modules.image_build import ARGUMENT_SPEC

_UNBASED = ", from what its Dockerfile names, which that engine pulls"


class ActionModule(ApiaryAction):
    """Build what the cache lacks, one image after the other."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        cache = ImageCache(Path(params["cache_dir"]))
        images = images_of(params)
        if self._task.check_mode:
            lacking = [image.reference for image in images if not cache.has(image.reference)]
            return {"changed": bool(lacking), "built": lacking}
        lacking_images = [image for image in images if not cache.sound(image.reference, image.our_base_reference)]
        if not lacking_images:
            return {"changed": False, "built": []}
        engine = params["docker"]["docker_host"]
        built = []
        with connect(params["docker"], timeout_seconds=TIMEOUT_SECONDS) as api:
            for image in lacking_images:
                Display().display(f"  building {image.reference} on {engine}{'' if image.base else _UNBASED}")
                if build(api, image, cache, engine):
                    built.append(image.reference)
        return {"changed": bool(built), "built": built}
