# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What keeps container nodes from being made is named first, and what is not Apiary's is left alone."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator
from typing import Any

import docker.types
import pytest

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from tests.clusters import CONFIRMED, Cluster, engine

NAME = "refused"
#: ranges of this file's own, so that what is refused is refused for one reason
SETTINGS = {
    "cluster_name": NAME,
    "container_machine_loopback_network": "127.0.94.0/24",
    "container_machine_network": "192.168.94.0/24",
}


@pytest.fixture
def api(containers: Cluster) -> Iterator[Any]:
    """The engine whose containers would be nodes."""
    with connect({"docker_host": engine()}) as api:
        yield api


@pytest.fixture
def cluster(containers: Cluster, api: Any) -> Iterator[Cluster]:
    """A cluster that is never made."""
    cluster = Cluster("inventories/containers", SETTINGS, state=containers.state)
    yield cluster
    label = {"label": f"apiary.cluster={NAME}"}
    made = [*api.containers(all=True, filters=label), *api.networks(filters=label)]
    if made or cluster.directory.exists():
        cluster.play("destroy", *CONFIRMED)
        pytest.fail("something was made")


def test_engine_that_does_not_run(cluster: Cluster) -> None:
    setting = "container_machine_engine=unix:///nowhere/docker.sock"
    output = cluster.play("machines", "-e", setting, succeeds=False).output
    assert "container_machine_engine is unix:///nowhere/docker.sock, and no Docker Engine answers there" in output
    assert "apt-get install docker.io" in output


def test_name_that_a_foreign_container_has(cluster: Cluster, api: Any) -> None:
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    api.import_image_from_data(empty.getvalue(), repository="apiary-tests/empty", tag="1")
    container = api.create_container("apiary-tests/empty:1", command="true", name=f"{NAME}-node2")
    try:
        output = cluster.play("machines", succeeds=False).output
        assert f"the engine has a container {NAME}-node2 that is not Apiary's" in output
        assert api.inspect_container(container["Id"])["Name"] == f"/{NAME}-node2"
    finally:
        api.remove_container(container["Id"])
        api.remove_image("apiary-tests/empty:1")


@pytest.mark.parametrize(
    ("name", "subnet", "expected"),
    [
        (
            "apiary-tests-lab",
            "192.168.94.64/26",
            "overlaps with the Docker network apiary-tests-lab (192.168.94.64/26)",
        ),
        (NAME, "192.168.93.0/24", f"the engine has a network {NAME} that is not Apiary's"),
    ],
    ids=["range", "name"],
)
def test_network_that_is_taken(cluster: Cluster, api: Any, name: str, subnet: str, expected: str) -> None:
    ipam = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=subnet)])
    network = api.create_network(name, ipam=ipam)
    try:
        assert expected in " ".join(cluster.play("machines", succeeds=False).output.split())
    finally:
        api.remove_network(network["Id"])


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("container_machine_network=office", "container_machine_network is 'office'"),
        ("container_machine_loopback_network=10.9.8.0/24", "lies outside 127.0.0.0/8"),
        ("container_machine_number=7", "give each its own container_machine_number"),
        ("stack_ingress=sideways", "sideways"),
    ],
)
def test_settings_that_cannot_work(cluster: Cluster, setting: str, expected: str) -> None:
    assert expected in cluster.play("site", "-e", setting, succeeds=False).output


@pytest.mark.parametrize(
    ("playbook", "arguments", "expected"),
    [
        ("remove_node", ["-e", "node=.."], "node is '..': it names a directory"),
        ("remove_node", ["-e", "node=../../other"], "node is '../../other': it names a directory"),
        ("destroy", [*CONFIRMED, "-e", f"cluster_name={NAME}/"], f"cluster_name is '{NAME}/'"),
        ("destroy", [*CONFIRMED, "-e", "cluster_name=.."], "cluster_name is '..'"),
        ("destroy", [*CONFIRMED, "--limit", "node2"], "--limit leaves out node1, node3, node4, node5"),
        ("restore", ["-e", "restore_confirmed=true", "--limit", "node1"], "--limit leaves out node2"),
        ("stop", ["--limit", "node2"], "start.yml, restart.yml and remove_node.yml with -e node=node2"),
        ("stack", ["--limit", "node1"], "--limit leaves out node2"),
        ("site", ["--limit", "node1"], "playbooks/machines.yml takes --limit"),
    ],
)
def test_what_would_reach_further_than_was_meant(
    cluster: Cluster, playbook: str, arguments: list[str], expected: str
) -> None:
    (keys := cluster.directory / "pki").mkdir(parents=True)
    (keys / "ca-key.pem").touch()
    try:
        output = " ".join(cluster.play(playbook, *arguments, succeeds=False).output.split())
        assert expected in output
        assert (keys / "ca-key.pem").exists()
    finally:
        shutil.rmtree(cluster.directory, ignore_errors=True)
