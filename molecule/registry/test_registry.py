# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role registry, and of publishing to it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils.image_source import content_tag

NODES = ["node1", "node2"]
IMAGES = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "images"
WEB = f"apiary/web:{content_tag(IMAGES / 'web')}"
REGISTRY = "127.0.0.1:5000"


def digest(scenario: Any, node: str, reference: str = WEB) -> str:
    """The digest of an image in the registry, as the engine of a node is told."""
    answer = scenario.engine(node).api.inspect_distribution(f"{REGISTRY}/{reference}", auth_config={})
    return str(answer["Descriptor"]["digest"])


def container(scenario: Any) -> dict[str, Any]:
    """The container of the registry, inspected."""
    ((name, node),) = scenario.running_tasks("node1", "registry_registry").items()
    assert node == "node1"
    found: dict[str, Any] = scenario.engine(node).api.inspect_container(name)
    return found


@pytest.mark.parametrize("node", NODES)
def test_every_engine_reaches_it_on_its_own_loopback_address(scenario: Any, node: str) -> None:
    assert digest(scenario, node) == digest(scenario, "node1")


@pytest.mark.parametrize("node", NODES)
def test_each_node_has_every_image_at_the_digest_of_the_registry(scenario: Any, node: str) -> None:
    for name in ("web", "ingress"):
        reference = f"apiary/{name}:{content_tag(IMAGES / name)}"
        wanted = f"{REGISTRY}/apiary/{name}@{digest(scenario, node, reference)}"
        assert wanted in scenario.engine(node).images.get(reference).attrs["RepoDigests"]


def test_it_is_pinned_to_the_node_with_its_data(scenario: Any) -> None:
    service = scenario.engine("node1").services.get("registry_registry")
    node = scenario.membership("node1")["NodeID"]
    assert service.attrs["Spec"]["TaskTemplate"]["Placement"]["Constraints"] == [f"node.id == {node}"]
    (mount,) = container(scenario)["Mounts"]
    assert (mount["Type"], mount["Name"], mount["Destination"]) == ("volume", "registry_data", "/var/lib/registry")


def test_it_runs_as_an_ordinary_user_on_a_root_that_it_cannot_write(scenario: Any) -> None:
    found = container(scenario)
    assert found["Config"]["User"] == "5000:5000"
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert found["HostConfig"]["CapDrop"] == ["ALL"]


def test_what_is_published_outlives_its_container(
    scenario: Any, eventually: Callable[[Callable[[], Any], float], Any]
) -> None:
    before, killed = digest(scenario, "node2"), container(scenario)["Id"]
    scenario.engine("node1").api.kill(killed)

    def replaced() -> bool:
        return bool(scenario.running_tasks("node1", "registry_registry").keys() - {killed})

    assert eventually(replaced, 120)
    scenario.play("images")  # which waits until every node reaches it
    assert digest(scenario, "node2") == before


def test_a_registry_that_was_scaled_down_by_hand_is_there_again_after_a_run(scenario: Any) -> None:
    service = scenario.engine("node1").services.get("registry_registry")
    service.scale(0)
    output = scenario.play("images").output
    assert "changed=1" in output
    assert "pushing" not in output
    assert digest(scenario, "node2") == digest(scenario, "node1")


def test_a_service_is_deployed_by_digest(scenario: Any) -> None:
    scenario.play("stack")
    service = scenario.engine("node1").services.get("getstartedlab_web")
    image = service.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    assert image == f"{REGISTRY}/{WEB}@{digest(scenario, 'node1')}"


def test_the_cluster_is_found_to_be_what_was_asked_for(scenario: Any) -> None:
    scenario.play("verify")


def test_the_report_does_not_call_it_open(scenario: Any) -> None:
    output = scenario.play("stack").output
    line = next(line for line in output.splitlines() if "registry_registry" in line)
    assert line.split("  ")[-1].strip() == "127.0.0.1:5000 on each node"
    assert ":5000" not in re.sub(r"127\.0\.0\.1:5000", "", output)
    assert "changed=0" in output
