# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role swarm_manager."""

from __future__ import annotations

from typing import Any

import pytest

MANAGERS = ["node1", "node2", "node3"]


@pytest.mark.parametrize("node", MANAGERS)
def test_each_machine_is_a_manager(scenario: Any, node: str) -> None:
    assert scenario.membership(node)["ControlAvailable"] is True


def test_all_are_in_one_swarm(scenario: Any) -> None:
    assert len({scenario.membership(node)["Cluster"]["ID"] for node in MANAGERS}) == 1


@pytest.mark.parametrize("node", MANAGERS)
def test_each_manager_reaches_all_others_and_knows_the_one_leader(scenario: Any, node: str) -> None:
    assert sorted(scenario.ready(node).values()) == ["leader", "manager", "manager"]
    managers = [entries[0]["ManagerStatus"] for entries in scenario.listed(node).values()]
    assert {manager["Reachability"] for manager in managers} == {"reachable"}


@pytest.mark.parametrize("node", MANAGERS)
def test_others_reach_it_at_its_address_among_the_nodes(scenario: Any, node: str) -> None:
    assert scenario.membership(node)["NodeAddr"] == f"192.168.{scenario.range}.{100 + int(node[-1])}"


def test_labels_and_availability_are_as_asked_for(scenario: Any) -> None:
    scenario.play("swarm", "-e", '{"node_labels": {"disk": "ssd"}, "node_availability": "drain"}')
    specs = [entries[0]["Spec"] for entries in scenario.listed("node1").values()]
    assert [(spec["Labels"], spec["Availability"]) for spec in specs] == [({"disk": "ssd"}, "drain")] * 3


def test_nothing_that_was_said_shows_a_join_token(scenario: Any) -> None:
    tokens = scenario.engine("node1").api.inspect_swarm()["JoinTokens"]
    said = scenario.play("swarm", "-vvv").output
    assert tokens["Manager"] not in said
    assert tokens["Worker"] not in said
