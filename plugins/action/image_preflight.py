# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check a list of images before anything is made; see the module of the same name for its documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.image_build import bootstrap_problem
from ansible_collections.apiary.swarm.plugins.module_utils.image_cache import ImageCache, space_problem
from ansible_collections.apiary.swarm.plugins.module_utils.image_registry import registry_of
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import bases_of, images_of
from ansible_collections.apiary.swarm.plugins.modules.image_preflight import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Read the list, look at the controller, touch nothing."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        images = images_of(params, str(self._templar.template(task_vars.get("project_dir") or "")))
        names = {}
        if params["registry"]:
            registry = registry_of(params, images)
            names = {image.reference: registry.references(image)[0] for image in images}
        cache = ImageCache(Path(params["cache_dir"]))
        problems = []
        if not all(cache.has(base.reference) for base in bases_of(images)):
            problems.append(bootstrap_problem())
        if not all(cache.has(image.reference) for image in images):
            problems.append(space_problem(cache.directory))
        if any(problems):
            raise ApiaryError("the images cannot be made: " + "; ".join(filter(None, problems)))
        return {"changed": False, "references": [image.reference for image in images], "names": names}
