# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role container_machine."""

from __future__ import annotations

import re
from typing import Any

import docker.errors
import pytest

NODES = ["node1", "node2"]


@pytest.mark.parametrize("node", NODES)
def test_each_host_is_a_node_with_an_engine_of_its_own(scenario: Any, node: str) -> None:
    info = scenario.engine(node).info()
    assert info["Name"] == node
    assert info["ID"] != scenario.outer.info()["ID"]


def test_there_are_no_other_nodes(scenario: Any) -> None:
    assert sorted(scenario.containers) == NODES


@pytest.mark.parametrize("node", NODES)
def test_engine_refuses_strangers(scenario: Any, node: str) -> None:
    with pytest.raises((docker.errors.DockerException, OSError), match=r"certificate required|bad certificate"):
        scenario.engine(node, keys=False).info()


@pytest.mark.parametrize("node", NODES)
def test_node_is_reached_on_its_loopback_address_only(scenario: Any, node: str) -> None:
    bindings = scenario.containers[node].attrs["NetworkSettings"]["Ports"].values()
    assert {binding["HostIp"] for port in bindings for binding in port or []} == {scenario.entrypoint(node)}


@pytest.mark.parametrize("node", NODES)
def test_stacks_port_leads_to_the_node(scenario: Any, node: str) -> None:
    assert scenario.containers[node].attrs["NetworkSettings"]["Ports"]["4000/tcp"]


@pytest.mark.parametrize("node", NODES)
def test_socket_is_for_the_group_that_the_contract_names(scenario: Any, node: str) -> None:
    assert scenario.inside(node).file("/run/docker.sock").gid == 2375


@pytest.mark.parametrize("node", NODES)
def test_images_and_containers_are_not_kept_on_an_overlay(scenario: Any, node: str) -> None:
    assert scenario.inside(node).mount_point("/var/lib/docker").filesystem != "overlay"
    assert scenario.engine(node).info()["Driver"] != "vfs"


@pytest.mark.parametrize(("node", "other"), [("node1", "node2"), ("node2", "node1")])
def test_nodes_reach_each_other(scenario: Any, node: str, other: str) -> None:
    address = f"192.168.{scenario.range}.{100 + int(other[-1])}"
    knock = scenario.inside(node).run(f"bash -c 'exec 3<>/dev/tcp/{address}/2376'")
    assert knock.succeeded, knock.stderr


@pytest.mark.parametrize("node", NODES)
def test_nodes_engine_does_not_wait_long_for_name_servers(scenario: Any, node: str) -> None:
    options = re.findall(r"^options (.*)$", scenario.inside(node).file("/etc/resolv.conf").content_string, re.M)
    assert {"timeout:1", "attempts:2"} <= {option for line in options for option in line.split()}


def test_stopped_node_starts_again_as_the_same(scenario: Any) -> None:
    before = scenario.engine("node2").info()["ID"]
    scenario.containers["node2"].kill()
    scenario.play("machines")
    assert scenario.engine("node2").info()["ID"] == before


def test_node_that_is_made_anew_has_the_data_of_the_old(scenario: Any) -> None:
    scenario.engine("node2").volumes.create("kept")
    scenario.containers["node2"].remove(force=True)
    scenario.play("machines")
    assert [volume.name for volume in scenario.engine("node2").volumes.list()] == ["kept"]


def test_removal_leaves_no_container_network_or_volume(scenario: Any) -> None:
    scenario.play("destroy", "-e", "destroy_confirmed=true")
    ours = {"label": "apiary.cluster=molecule-container-machine"}
    assert scenario.outer.containers.list(all=True, filters=ours) == []
    assert scenario.outer.networks.list(names=["molecule-container-machine"]) == []
    assert [v.name for v in scenario.outer.volumes.list() if "molecule-container-machine" in v.name] == []
    scenario.play("machines")  # for whoever verifies again
