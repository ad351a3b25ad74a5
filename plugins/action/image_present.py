# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have images on nodes; see the module of the same name for its documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import Node, connect, on_all
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.image_build import TIMEOUT_SECONDS, load, present
from ansible_collections.apiary.swarm.plugins.module_utils.image_cache import ImageCache
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import (
    Base,
    Image,
    bases_of,
    entries_of,
    images_of,
)
from ansible_collections.apiary.swarm.plugins.modules.image_present import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Ask every node once; load only what it lacks."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        images = images_of(params)
        wanted = [image.reference for image in images]
        have = self._have(params["nodes"], [*wanted, *(base.reference for base in bases_of(images))])
        lacking = {node: items for node, on_node in have.items() if (items := _lacking(images, on_node))}
        cache = ImageCache(Path(params["cache_dir"]))
        missing: list[str] = []
        if self._task.check_mode:
            loaded = {node: [item.reference for item in items] for node, items in lacking.items()}
        else:
            missing = _missing(cache, lacking)
            loaded = _load(params["nodes"], cache, lacking, missing)
            if missing and not params["missing_ok"]:
                raise ApiaryError(
                    f"neither {', '.join(lacking)} nor {cache.directory} has {', '.join(missing)}: "
                    "run playbooks/images.yml, which builds what is missing"
                )
        result: dict[str, Any] = {
            "changed": any(loaded.values()),
            "loaded": loaded,
            "missing": missing,
            "missing_images": entries_of(params, missing),
        }
        if self._task.diff and result["changed"]:
            result["diff"] = {
                "before": _listed(wanted, have),
                "after": _listed(wanted, {node: on_node | {*loaded.get(node, [])} for node, on_node in have.items()}),
            }
        return result

    def _have(self, nodes: Sequence[Node], references: Sequence[str]) -> dict[str, set[str]]:
        """Return which of *references* each node has."""

        def ask(node: Node) -> set[str]:
            try:
                with connect(node["docker"]) as api:
                    return present(api, references)
            except ApiaryError:
                if not self._task.check_mode:
                    raise
                return set()  # before the first run there is no engine yet

        return on_all(nodes, ask)


def _lacking(images: Sequence[Image], have: set[str]) -> list[Base | Image]:
    """Return the images that a node lacks, bases first."""
    lacking = [image for image in images if image.reference not in have]
    return [*(base for base in bases_of(lacking) if base.reference not in have), *lacking]


def _base_reference(item: Base | Image) -> str:
    return item.our_base_reference if isinstance(item, Image) else ""


def _missing(cache: ImageCache, lacking: Mapping[str, Sequence[Base | Image]]) -> list[str]:
    """Return which of the lacking images the cache has no sound archive of, bases first."""
    items = {item.reference: item for items in lacking.values() for item in items}
    missing: list[str] = []
    for item in sorted(items.values(), key=lambda item: isinstance(item, Image)):
        base_reference = _base_reference(item)
        if base_reference in missing or not cache.sound(item.reference, base_reference):
            if cache.has(item.reference):
                Display().warning(
                    f"{cache.path(item.reference)} is damaged, or built on what is gone: it is made again"
                )
            missing.append(item.reference)
    return missing


def _load(
    nodes: Sequence[Node], cache: ImageCache, lacking: Mapping[str, Sequence[Base | Image]], missing: Sequence[str]
) -> dict[str, list[str]]:
    """Load what each node lacks and the cache has; return what was loaded into each."""
    to_load = {node: [item for item in items if item.reference not in missing] for node, items in lacking.items()}
    for reference in {item.reference: None for items in to_load.values() for item in items}:
        into = [node for node, items in to_load.items() if reference in [item.reference for item in items]]
        Display().display(f"  loading {reference} into {', '.join(into)}")

    def load_into(node: Node) -> list[str]:
        with connect(node["docker"], timeout_seconds=TIMEOUT_SECONDS) as api:
            return [
                item.reference
                for item in to_load[node["name"]]
                if load(api, item.reference, cache, node["name"], _base_reference(item))
            ]

    return on_all([node for node in nodes if to_load.get(node["name"])], load_into)


def _listed(wanted: Sequence[str], on_nodes: Mapping[str, set[str]]) -> dict[str, list[str]]:
    return {node: [reference for reference in wanted if reference in have] for node, have in on_nodes.items()}
