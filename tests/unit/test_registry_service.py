# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The registry stays with its data."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils.registry_service import (
    Place,
    pinned_to,
    place,
    without_proxy,
)


def node(name: str, role: str = "manager", *, availability: str = "active", state: str = "ready") -> dict[str, Any]:
    return {
        "ID": f"id-{name}",
        "Description": {"Hostname": name},
        "Spec": {"Role": role, "Availability": availability},
        "Status": {"State": state},
    }


def service(*constraints: str) -> dict[str, Any]:
    return {"Spec": {"TaskTemplate": {"Placement": {"Constraints": list(constraints)}}}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, ""),
        ({"Spec": {"TaskTemplate": {}}}, ""),
        (service("node.role == manager"), ""),
        (service("node.role==manager", "node.id==id-n2"), "id-n2"),
        (service("node.id != id-n2"), ""),
    ],
)
def test_a_service_says_where_its_data_is(found: dict[str, Any] | None, expected: str) -> None:
    assert pinned_to(found) == expected


@pytest.mark.parametrize(
    ("pinned", "nodes", "expected"),
    [
        pytest.param("", [node("n1"), node("n2")], Place("id-n2", "n2"), id="new: on the manager that is asked"),
        pytest.param("n1", [node("n1"), node("n2")], Place("id-n1", "n1"), id="where it was"),
        pytest.param("n1", [node("n1", state="down"), node("n2")], Place("id-n1", "n1"), id="even if that is down"),
        pytest.param("n9", [node("n1"), node("n2")], Place("id-n2", "n2", "id-n9"), id="its node has gone for good"),
        pytest.param(
            "",
            [node("n3", "worker"), node("n1"), node("n2", availability="drain")],
            Place("id-n1", "n1"),
            id="new: on another manager where that one is drained",
        ),
        pytest.param(
            "",
            [node("n2", availability="drain"), node("n4", "worker"), node("n3", "worker")],
            Place("id-n3", "n3"),
            id="new: on a worker where all managers are drained",
        ),
        pytest.param("", [node("n2", availability="drain")], Place("id-n2", "n2"), id="there is no better one"),
    ],
)
def test_the_registry_goes_where_its_data_is_or_where_it_can_run(
    pinned: str, nodes: list[dict[str, Any]], expected: Place
) -> None:
    found = service(f"node.id == id-{pinned}") if pinned else None
    assert place(found, nodes, "id-n2") == expected


def test_a_drained_node_has_no_proxy() -> None:
    nodes = [node("n1"), node("n2", availability="drain"), node("n3", availability="pause")]
    assert without_proxy(nodes) == {"id-n2"}
