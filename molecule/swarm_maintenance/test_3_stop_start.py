# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is promised of machines that stop and start, and of the status meanwhile. The tests build on each other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.load import Load

NODES = ["node1", "node2"]


def changes(output: str) -> int:
    return sum(map(int, re.findall(r"\bchanged=(\d+)", output)))


def status(scenario: Any, directory: Path, *, healthy: bool) -> dict[str, Any]:
    """What playbooks/status.yml writes for programs."""
    file = directory / "status.json"
    run = scenario.play("status", "-e", f"status_file={file}", succeeds=healthy)
    assert changes(run.output) == 0
    assert "SWMTKN" not in run.output + file.read_text()
    found: dict[str, Any] = json.loads(file.read_text())
    assert found["healthy"] == healthy
    return found


def test_running_cluster_is_healthy_and_told_in_numbers(scenario: Any, tmp_path: Path) -> None:
    found = status(scenario, tmp_path, healthy=True)
    nodes = {node["name"]: node for node in found["nodes"]}
    assert {name: node["id"] for name, node in nodes.items()} == {
        name: scenario.membership(name)["NodeID"] for name in NODES
    }
    assert sum(node["tasks"] for node in nodes.values()) == 4 + 1 + 2  # web, store, and the proxy on each
    (web,) = [service for service in found["services"] if service["name"] == "getstartedlab_web"]
    assert (web["running"], web["wanted"]) == (4, 4)
    assert {end["url"] for end in found["endpoints"]} == {f"http://{scenario.entrypoint(node)}:4000" for node in NODES}
    assert all(end["answers"] for end in found["endpoints"])
    assert {"this computer", "the engines' authority", "node1", "node2", "the swarm's authority"} == {
        certificate["of"] for certificate in found["certificates"]
    }


@pytest.fixture(scope="module")
def stopped(scenario: Any) -> Load:
    """Stop the worker, with a load on the other node."""
    with Load([scenario.url("node1")]) as load:
        scenario.play("stop", "-e", "node=node2")
    return load


def test_node_stops_without_a_lost_request(scenario: Any, stopped: Load) -> None:
    assert stopped.lost == []
    assert scenario.containers["node2"].status == "exited"
    assert scenario.availability("node1", "node2") == ("drain", "active")
    assert list(scenario.running_tasks("node1").values()) == ["node1"] * 4


def test_status_names_the_node_that_is_away(scenario: Any, stopped: Load, tmp_path: Path) -> None:
    found = status(scenario, tmp_path, healthy=False)
    assert any(text.startswith("node2: its engine at ") for text in found["problems"])
    assert {node["name"]: node["engine_answers"] for node in found["nodes"]} == {"node1": True, "node2": False}
    assert any("playbooks/start.yml gives it its work back" in text for text in found["warnings"])


def test_node_starts_again_with_what_it_had(scenario: Any, stopped: Load) -> None:
    scenario.play("start", "-e", "node=node2")
    assert scenario.availability("node1", "node2") == ("active", None)
    assert scenario.ready("node1") == {"node1": "leader", "node2": "worker"}


def test_all_stop_and_start_and_everything_answers_at_the_same_addresses(scenario: Any, stopped: Load) -> None:
    ids = {node: scenario.membership(node)["NodeID"] for node in NODES}
    scenario.play("stop")
    assert {container.status for container in scenario.containers.values()} == {"exited"}
    assert changes(scenario.play("stop").output) == 0
    scenario.play("start")
    assert {node: scenario.membership(node)["NodeID"] for node in NODES} == ids
    tasks = {container[:12] for container in scenario.running_tasks("node1")}
    assert len(tasks) == 4
    for node in NODES:
        assert scenario.heard(node, tasks) == tasks
    assert changes(scenario.play("start").output) == 0


def test_node_that_is_no_host_is_refused(scenario: Any) -> None:
    run = scenario.play("stop", "-e", "node=nobody", succeeds=False)
    assert "node is 'nobody', which is no host of the inventory" in " ".join(run.output.split())
