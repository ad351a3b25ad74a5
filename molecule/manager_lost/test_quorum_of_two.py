# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is promised when one manager of three is lost. The tests build on each other."""

from __future__ import annotations

from typing import Any

import docker.errors
import pytest


@pytest.fixture(scope="module")
def lost(scenario: Any) -> tuple[str, str]:
    """Stop the leader; its name, and its ID in the swarm."""
    roles = scenario.ready("node1")
    leader: str = next(name for name, role in roles.items() if role == "leader")
    node_id = scenario.membership(leader)["NodeID"]
    scenario.containers[leader].kill()
    return leader, node_id


@pytest.fixture(scope="module")
def survivor(scenario: Any, lost: tuple[str, str]) -> str:
    return sorted({"node1", "node2", "node3"} - {lost[0]})[0]


def test_other_two_choose_a_leader(scenario: Any, eventually: Any, lost: tuple[str, str], survivor: str) -> None:
    def leader() -> str | None:
        try:
            entries = [entry for (entry,) in scenario.listed(survivor).values()]
        except docker.errors.APIError:  # while there is none
            return None
        leaders = [entry for entry in entries if entry.get("ManagerStatus", {}).get("Leader")]
        return next((entry["Description"]["Hostname"] for entry in leaders), None)

    assert eventually(lambda: leader() not in (None, lost[0]))


def test_swarm_still_takes_changes(scenario: Any, survivor: str) -> None:
    engine = scenario.engine(survivor)
    (entry,) = scenario.listed(survivor)[survivor]
    engine.api.update_node(entry["ID"], entry["Version"]["Index"], {**entry["Spec"], "Labels": {"kept": "yes"}})
    (entry,) = scenario.listed(survivor)[survivor]
    assert entry["Spec"]["Labels"] == {"kept": "yes"}


def test_next_run_brings_it_back_as_the_same_node(
    scenario: Any, eventually: Any, lost: tuple[str, str], survivor: str
) -> None:
    scenario.play("machines")
    scenario.play("swarm")
    assert eventually(lambda: len(scenario.ready(survivor)) == 3)
    assert scenario.membership(lost[0])["NodeID"] == lost[1]
    (entry,) = scenario.listed(survivor)[lost[0]]
    assert entry["ManagerStatus"]["Reachability"] == "reachable"


def test_what_was_changed_without_it_is_known_to_it(scenario: Any, lost: tuple[str, str], survivor: str) -> None:
    (entry,) = scenario.listed(lost[0])[survivor]
    assert entry["Spec"]["Labels"] == {"kept": "yes"}
