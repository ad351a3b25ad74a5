# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is promised of a rolling restart. The tests build on each other.

Containers have no routing mesh where the kernel has no IPVS, and the proxy of a drained node does not answer. So the
load takes the other entrypoint where one refuses, as a client does that knows both.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import Any

import pytest

from tests.load import Load

NODES = ["node1", "node2"]


@dataclass
class Restart:
    """What was before a restart, and what happened during it."""

    load: Load
    ids: dict[str, str]
    started: dict[str, str]


def started(scenario: Any) -> dict[str, str]:
    return {node: container.attrs["State"]["StartedAt"] for node, container in scenario.containers.items()}


def store(scenario: Any) -> Any:
    """The container that keeps something on its node."""
    label = {"label": "com.docker.swarm.service.name=getstartedlab_store"}
    (container,) = scenario.engine("node2").containers.list(filters=label)
    return container


def archive(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def restart(scenario: Any) -> Restart:
    """Restart all nodes, under load."""
    store(scenario).put_archive("/kept", archive("count", b"42"))
    ids = {node: scenario.membership(node)["NodeID"] for node in NODES}
    before = started(scenario)
    with Load([scenario.url(node) for node in NODES], failover=True) as load:
        scenario.play("restart")
    return Restart(load, ids, before)


def test_every_node_has_restarted_as_the_same_node_the_leader_last(scenario: Any, restart: Restart) -> None:
    after = started(scenario)
    assert restart.started["node1"] < after["node2"] < after["node1"]
    assert {node: scenario.membership(node)["NodeID"] for node in NODES} == restart.ids


def test_no_request_was_lost(restart: Restart) -> None:
    assert restart.load.lost == []
    assert restart.load.answers > 50


@pytest.mark.parametrize("node", NODES)
def test_nodes_take_tasks_again(scenario: Any, restart: Restart, node: str) -> None:
    assert scenario.availability("node1", node) == ("active", None)


def test_tasks_are_spread_as_before(scenario: Any, restart: Restart) -> None:
    assert sorted(scenario.running_tasks("node1").values()) == ["node1", "node1", "node2", "node2"]


def test_data_is_intact(scenario: Any, restart: Restart) -> None:
    chunks, _stat = store(scenario).get_archive("/kept/count")
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        file = tar.extractfile("count")
        assert file
        assert file.read() == b"42"


def test_interrupted_restart_is_ended_by_a_start_and_nothing_is_forgotten(scenario: Any, restart: Restart) -> None:
    scenario.make_available("node1", "node2", "pause")
    scenario.play_until("restart", "Start it again", seconds=0)
    assert scenario.availability("node1", "node2") == ("drain", "pause")
    assert scenario.containers["node2"].status == "exited"
    scenario.play("start")
    assert scenario.availability("node1", "node2") == ("pause", None)
    scenario.make_available("node1", "node2", "active")
