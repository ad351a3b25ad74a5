# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role swarm_worker."""

from __future__ import annotations

from typing import Any

import docker.errors
import pytest


def test_machine_is_a_worker_of_the_managers_swarm(scenario: Any) -> None:
    worker = scenario.membership("node2")
    assert (worker["LocalNodeState"], worker["ControlAvailable"]) == ("active", False)
    assert [manager["NodeID"] for manager in worker["RemoteManagers"]] == [scenario.membership("node1")["NodeID"]]


def test_manager_lists_it_as_ready(scenario: Any) -> None:
    assert scenario.ready("node1") == {"node1": "leader", "node2": "worker"}


def test_worker_cannot_list_nodes(scenario: Any) -> None:
    with pytest.raises(docker.errors.APIError, match="Worker nodes can't"):
        scenario.engine("node2").api.nodes()


def test_its_labels_and_availability_are_as_asked_for(scenario: Any) -> None:
    (entry,) = scenario.listed("node1")["node2"]
    assert (entry["Spec"]["Labels"], entry["Spec"]["Availability"]) == ({"disk": "ssd"}, "pause")


def test_others_reach_it_at_its_address_among_the_nodes(scenario: Any) -> None:
    (entry,) = scenario.listed("node1")["node2"]
    assert entry["Status"]["Addr"] == f"192.168.{scenario.range}.102"
