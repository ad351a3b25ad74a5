# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is to be pushed to a registry and pulled from it: judged from what the registry and the nodes have.

A published image is known by its digest. The digest is what the registry says it is; a node has the image when it knows
that digest of the image which it has under the name in the templates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.image_registry import Registry, familiar
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import Image

#: reference → digests that a node knows of the image it has under that reference
OnNode = Mapping[str, set[str]]


@dataclass(frozen=True)
class Plan:
    """What lacks where. ``digests`` holds those that are known before anything is pushed, by reference."""

    registry: Registry
    digests: Mapping[str, str]
    #: in the registry by no name, and not on the node that pushes
    missing: Sequence[Image]
    push: Sequence[Image]
    pull: Mapping[str, Sequence[Image]]
    #: other tags that the registry lacks, or has for another image
    tag: Sequence[tuple[Image, str]]

    @property
    def pushed(self) -> list[str]:
        """Names and tags that will be new in the registry."""
        new = [(image, image.tag) for image in self.push]
        return [f"{self.registry.name(image)}:{tag}" for image, tag in [*new, *self.tag]]

    @property
    def pulled(self) -> dict[str, list[str]]:
        return {node: [image.reference for image in images] for node, images in self.pull.items()}

    @property
    def lines(self) -> list[str]:
        """The plan in words."""
        return [
            *(f"push {name}" for name in self.pushed),
            *(f"pull {image.reference} into {', '.join(nodes)}" for image, nodes in self.pulls()),
        ]

    def pulls(self) -> Iterable[tuple[Image, list[str]]]:
        """Yield each image with the nodes that lack it."""
        for image in {image.reference: image for images in self.pull.values() for image in images}.values():
            yield image, [node for node, images in self.pull.items() if image in images]


def on_node(listed: Iterable[Mapping[str, Any]], registry: Registry, images: Iterable[Image]) -> dict[str, set[str]]:
    """Return which of *images* a node has, from its engine's list, and the digests in *registry* of each."""
    found: dict[str, set[str]] = {}
    entries = list(listed)
    for image in images:
        prefix = f"{familiar(registry.name(image))}@"
        for entry in entries:
            if image.reference in (entry.get("RepoTags") or []):
                digests = entry.get("RepoDigests") or []
                found[image.reference] = {text.removeprefix(prefix) for text in digests if text.startswith(prefix)}
    return found


def plan(
    registry: Registry,
    images: Sequence[Image],
    on_nodes: Mapping[str, OnNode],
    in_registry: Mapping[str, str],
    *,
    foretell: bool = False,
) -> Plan:
    """Return what is to be done; the first node pushes.

    *in_registry* holds the digests by name and tag, empty for what is not there. To *foretell* means to take for there
    what earlier tasks would have built.
    """
    pusher = next(iter(on_nodes))
    digests = {image.reference: digest for image in images if (digest := in_registry.get(_own(registry, image), ""))}
    unpublished = [image for image in images if image.reference not in digests]
    push = [image for image in unpublished if foretell or image.reference in on_nodes[pusher]]
    there = [image for image in images if image.reference in digests or image in push]
    pull = {
        node: [image for image in there if not _has(has, image, digests) and not (node == pusher and image in push)]
        for node, has in on_nodes.items()
    }
    return Plan(
        registry,
        digests,
        [image for image in unpublished if image not in push],
        push,
        {node: lacking for node, lacking in pull.items() if lacking},
        [
            (image, tag)
            for image in there
            for tag in image.tags
            if image in push or in_registry.get(f"{registry.name(image)}:{tag}") != digests[image.reference]
        ],
    )


def common(registry: Registry, images: Iterable[Image], on_nodes: Mapping[str, OnNode]) -> dict[str, str]:
    """Return what all nodes have alike, in the form of what a registry has: to go by where the registry is silent."""
    found = {}
    for image in images:
        shared = set.intersection(*(set(has.get(image.reference, ())) for has in on_nodes.values()))
        if shared:
            digest = min(shared)
            found.update(dict.fromkeys(registry.references(image), digest))
    return found


def _own(registry: Registry, image: Image) -> str:
    return registry.references(image)[0]


def _has(has: OnNode, image: Image, digests: Mapping[str, str]) -> bool:
    return digests.get(image.reference) in has.get(image.reference, ())
