# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have images in a registry and, from there, on nodes; see the module of the same name for its documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import Node, connect, on_all
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.image_build import TIMEOUT_SECONDS
from ansible_collections.apiary.swarm.plugins.module_utils.image_publication import Plan, common, on_node, plan
from ansible_collections.apiary.swarm.plugins.module_utils.image_registry import (
    RefusedError,
    Registry,
    complaint,
    digest_of,
    familiar,
    pull,
    push,
    registry_of,
)
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import Image, entries_of, images_of
from ansible_collections.apiary.swarm.plugins.modules.image_publish import ARGUMENT_SPEC

#: for how long an engine may look for a registry; it takes longer itself where packets are lost without a word
_REGISTRY_SECONDS = 30


class ActionModule(ApiaryAction):
    """Ask the registry and every node once, all at the same time; push and pull only what is lacking."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        images = images_of(params)
        registry = registry_of(params, images)
        nodes = params["nodes"]
        with ThreadPoolExecutor(1) as pool:  # beside the nodes, as it may take longest
            asked = pool.submit(self._in_registry, nodes[0], registry, images)
            on_nodes = self._on_nodes(nodes, registry, images)
            in_registry, error = asked.result()
        if error:
            in_registry = self._without_registry(error, common(registry, images, on_nodes), images)
        to_do = plan(registry, images, on_nodes, in_registry, foretell=self._task.check_mode)
        missing = [image.reference for image in to_do.missing]
        if missing and not params["missing_ok"]:
            raise ApiaryError(
                f"neither {registry.address} nor {nodes[0]['name']} has {', '.join(missing)}: run "
                "playbooks/images.yml, which builds what is missing"
            )
        digests = dict(to_do.digests) if self._task.check_mode else _publish(nodes, to_do)
        result: dict[str, Any] = {
            "changed": bool(to_do.pushed or to_do.pulled),
            "pushed": to_do.pushed,
            "pulled": to_do.pulled,
            "missing": missing,
            "missing_images": entries_of(params, missing),
            "published": _published(to_do, digests, images),
        }
        if self._task.diff and result["changed"]:
            result["diff"] = {"prepared": "".join(f"{line}\n" for line in to_do.lines)}
        return result

    def _on_nodes(
        self, nodes: Sequence[Node], registry: Registry, images: Sequence[Image]
    ) -> dict[str, dict[str, set[str]]]:
        """Return the images that each node has under their own names, and the digests that the node knows of each."""
        references = [image.reference for image in images]
        names = sorted({familiar(registry.name(image)) for image in images})

        def ask(node: Node) -> dict[str, set[str]]:
            try:
                with connect(node["docker"]) as api:
                    listed = api.images(filters={"reference": [*references, *names]}) if images else []
            except ApiaryError:
                if not self._task.check_mode:
                    raise
                listed = []  # before the first run there is no engine yet
            return on_node(listed, registry, images)

        return on_all(nodes, ask)

    def _in_registry(
        self, node: Node, registry: Registry, images: Sequence[Image]
    ) -> tuple[dict[str, str], ApiaryError | None]:
        """Return the digests of what the registry has, by name and tag, or why it could not be asked."""

        def ask(reference: str) -> str:
            try:
                with connect(node["docker"], timeout_seconds=_REGISTRY_SECONDS) as api:
                    return digest_of(api, registry, reference)
            except ApiaryError as error:
                if "timed out" not in str(error):
                    raise
                said = f"no answer in {_REGISTRY_SECONDS} seconds"
                raise complaint(f"asking for {reference}", registry, said) from error

        references = [reference for image in images for reference in registry.references(image)]
        try:
            with ThreadPoolExecutor(8) as pool:
                return dict(zip(references, pool.map(ask, references), strict=True)), None
        except ApiaryError as error:
            return {}, error

    def _without_registry(
        self, error: ApiaryError, common_digests: dict[str, str], images: Sequence[Image]
    ) -> dict[str, str]:
        """Return what to go by where the registry is silent: what all nodes have of it, if that is everything."""
        if isinstance(error, RefusedError):
            raise error
        if len(common_digests) >= sum(1 + len(image.tags) for image in images):
            Display().warning(f"{error}. All nodes have what is published there, so this run goes on without it")
            return common_digests
        if self._task.check_mode:
            return {}  # an earlier task may be going to make the registry
        raise error


def _publish(nodes: Sequence[Node], to_do: Plan) -> dict[str, str]:
    """Push what the registry lacks and have the nodes pull; return the digests of all."""
    registry, digests, pusher = to_do.registry, dict(to_do.digests), nodes[0]
    if to_do.push:
        with connect(pusher["docker"], timeout_seconds=TIMEOUT_SECONDS) as api:
            for image in to_do.push:
                Display().display(f"  pushing {registry.name(image)}:{image.tag}")
                digests[image.reference] = push(api, registry, image, image.tag, pusher["name"])
    for image, into in to_do.pulls():
        Display().display(f"  pulling {registry.name(image)}:{image.tag} into {', '.join(into)}")

    def pull_into(node: Node) -> None:
        with connect(node["docker"], timeout_seconds=TIMEOUT_SECONDS) as api:
            for image in to_do.pull[node["name"]]:
                pull(api, registry, image, digests[image.reference], node["name"])

    on_all([node for node in nodes if node["name"] in to_do.pull], pull_into)
    if to_do.tag:  # last: the node that pushes may have had to pull first
        with connect(pusher["docker"], timeout_seconds=TIMEOUT_SECONDS) as api:
            for image, tag in to_do.tag:
                Display().display(f"  pushing {registry.name(image)}:{tag}")
                push(api, registry, image, tag, pusher["name"])
    return digests


def _published(to_do: Plan, digests: Mapping[str, str], images: Sequence[Image]) -> dict[str, str]:
    """Return what a stack is to name instead of each reference; in check mode a new digest is not known yet."""
    there = [image for image in images if image not in to_do.missing]
    return {
        image.reference: f"{to_do.registry.name(image)}:{image.tag}"
        + (f"@{digests[image.reference]}" if image.reference in digests else "")
        for image in there
    }
