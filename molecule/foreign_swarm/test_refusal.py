# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is promised about a node that belongs to another swarm."""

from __future__ import annotations

from typing import Any

import pytest

MODES = {"a check": ["--check"], "a run": []}


@pytest.mark.parametrize("arguments", MODES.values(), ids=MODES)
def test_node_of_another_swarm_is_refused_and_both_swarms_are_named(scenario: Any, arguments: list[str]) -> None:
    swarms = [scenario.membership(node)["Cluster"]["ID"] for node in ("node1", "node2")]
    run = scenario.play("swarm", *arguments, succeeds=False)
    said = " ".join(run.output.split())
    assert "node2" in said
    assert "No node leaves a swarm silently" in said
    assert all(swarm in said for swarm in swarms)


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_each_swarm_is_left_as_it_was(scenario: Any, node: str) -> None:
    before = scenario.membership(node)["Cluster"]
    scenario.play("swarm", succeeds=False)
    assert scenario.membership(node)["Cluster"] == before
    assert scenario.ready(node) == {node: "leader"}


def test_site_stops_before_it_deploys(scenario: Any) -> None:
    scenario.play("site", succeeds=False)
    assert scenario.engine("node1").services.list() == []
    assert scenario.engine("node2").services.list() == []
