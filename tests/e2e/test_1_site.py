# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From nothing to a load-balanced stack: the tutorial's own promises."""

from __future__ import annotations

import re
from collections import Counter

import docker.errors
import pytest
import testinfra

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

from .conftest import Cluster, ask, ask_often

MACHINES = ["myvm1", "myvm2"]


def test_check_before_the_first_run_says_what_would_be_made(cluster: Cluster) -> None:
    run = cluster.play("site", "--check", "--diff")
    assert "myvm1: start the machine" in run.output
    assert run.changed > 0
    assert not cluster.directory.exists()


def test_site_ends_with_the_report(cluster: Cluster) -> None:
    output = cluster.play("site").output
    report = " ".join(output[output.rindex("Cluster e2e") :].split())
    assert "myvm1 leader ready 192.168.99.101 127.0.98.101" in report
    assert "myvm2 worker ready 192.168.99.102 127.0.98.102" in report
    assert "getstartedlab_web 5/5" in report
    assert "http://127.0.98.101:4000 http://127.0.98.102:4000" in report
    assert re.search(r"Machines \d+\.\d s · .*total \d+\.\d s", output)


@pytest.mark.parametrize("machine", MACHINES)
def test_twenty_requests_come_back_from_the_same_five_containers_in_turn(cluster: Cluster, machine: str) -> None:
    answers = ask_often(cluster.entrypoints[machine], 20)
    assert set(answers) == {container[:12] for container in cluster.web_containers()}
    assert Counter(answers.values()) == {4: 5}


def test_answers_say_plainly_that_there_is_no_redis(cluster: Cluster) -> None:
    assert ask(cluster.entrypoints["myvm1"])["visits"] is None


def test_tasks_are_on_both_nodes(cluster: Cluster) -> None:
    spread = Counter(cluster.web_containers().values())
    assert sorted(spread.values()) == [2, 3]


def test_containers_have_the_limits_of_the_tutorial(cluster: Cluster) -> None:
    for container, machine in cluster.web_containers().items():
        with cluster.api(machine) as api:
            limits = api.inspect_container(container)["HostConfig"]
        assert limits["NanoCpus"] == 100_000_000
        assert limits["Memory"] == 50 * 1024 * 1024


def test_manager_lists_both_nodes_as_ready(cluster: Cluster) -> None:
    with cluster.api("myvm1") as api:
        nodes = {
            node["Description"]["Hostname"]: (node["Spec"]["Role"], node["Status"]["State"]) for node in api.nodes()
        }
    assert nodes == {"myvm1": ("manager", "ready"), "myvm2": ("worker", "ready")}


def test_worker_cannot_list_nodes(cluster: Cluster) -> None:
    with pytest.raises(ApiaryError, match="not a swarm manager"), cluster.api("myvm2") as api:
        api.nodes()


def test_swarm_uses_the_tutorials_port_on_the_private_network(cluster: Cluster) -> None:
    with cluster.api("myvm1") as api:
        assert api.info()["Swarm"]["RemoteManagers"][0]["Addr"] == "192.168.99.101:2377"


@pytest.mark.parametrize("machine", MACHINES)
def test_api_refuses_a_client_without_certificate(cluster: Cluster, machine: str) -> None:
    authority = str(cluster.directory / "client" / "ca.pem")
    tls = docker.tls.TLSConfig(ca_cert=authority, verify=True)
    address = f"tcp://{cluster.entrypoints[machine]}:2376"
    with pytest.raises((docker.errors.DockerException, OSError)):
        docker.APIClient(base_url=address, tls=tls, version="1.40", timeout=20).nodes()


@pytest.mark.parametrize("machine", MACHINES)
def test_machine_starts_only_what_the_job_needs(cluster: Cluster, machine: str) -> None:
    host = testinfra.get_host(f"ssh://{machine}", ssh_config=str(cluster.directory / "ssh" / "config"))
    assert host.check_output("hostname") == machine
    assert host.file("/etc/docker/key.pem").mode == 0o600
    programs = set(host.check_output("ps -o comm= -p $(pgrep -d, -P 1)").split())
    assert programs <= {"containerd", "dockerd", "sshd", "containerd-shim"}


def test_second_run_changes_nothing(cluster: Cluster) -> None:
    before = cluster.web_containers()
    assert cluster.play("site").changed == 0
    assert cluster.web_containers() == before


def test_check_after_it_has_nothing_to_change(cluster: Cluster) -> None:
    assert cluster.play("site", "--check", "--diff").changed == 0
