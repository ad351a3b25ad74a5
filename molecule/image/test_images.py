# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role image."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest

NODES = ["node1", "node2"]


def tags(scenario: Any, node: str, name: str) -> list[str]:
    found = [tag.split(":") for image in scenario.engine(node).images.list() for tag in image.tags]
    return [tag for repository, tag in found if repository == name]


@pytest.mark.parametrize("node", NODES)
def test_each_node_has_the_image_under_one_tag_made_from_its_files(scenario: Any, node: str) -> None:
    (tag,) = tags(scenario, node, "apiary/note")
    assert len(tag) == 12
    assert int(tag, 16)


@pytest.mark.parametrize("node", NODES)
def test_a_tag_that_was_given_is_used(scenario: Any, node: str) -> None:
    assert tags(scenario, node, "apiary/named-note") == ["1"]


def test_all_nodes_have_the_very_same_image(scenario: Any) -> None:
    assert len({scenario.engine(node).images.get("apiary/named-note:1").id for node in NODES}) == 1


@pytest.mark.parametrize("node", NODES)
def test_what_the_dockerfile_says_is_in_the_image(scenario: Any, node: str) -> None:
    image = scenario.engine(node).images.get("apiary/named-note:1")
    assert image.labels["apiary.note"] == "kept"
    container = scenario.engine(node).api.create_container(image.id)
    try:
        stream, _ = scenario.engine(node).api.get_archive(container, "/note")
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            member = archive.extractfile("note")
            assert member and member.read() == b"carried from node to node\n"
    finally:
        scenario.engine(node).api.remove_container(container)
