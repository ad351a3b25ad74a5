# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role docker_machine: the life of machines, and how each failure is told and mended."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from tests.docker_machines import DockerMachine

ADDRESSES = {"myvm1": "192.168.58.31", "myvm2": "192.168.58.32"}
MACHINES = list(ADDRESSES)
DATA = "/var/lib/boot2docker/data"


@pytest.fixture(scope="session")
def tool() -> DockerMachine:
    return DockerMachine()


def engine(tool: DockerMachine, machine: str, port: int = 2376, keys: bool = True) -> Any:
    return tool.api(machine, ADDRESSES[machine], port, keys)


def machines(scenario: Any, *settings: str, succeeds: bool = True) -> str:
    """Run playbooks/machines.yml, and return what it says, on one line; with the actions, as it shows differences."""
    arguments = ["--diff"] + [word for setting in settings for word in ("-e", setting)]
    return " ".join(scenario.play("machines", *arguments, succeeds=succeeds).output.split())


# Machines that were made


@pytest.mark.parametrize("machine", MACHINES)
def test_each_host_is_a_machine_with_the_address_of_the_inventory(tool: DockerMachine, machine: str) -> None:
    assert tool.call("ip", machine).strip() == ADDRESSES[machine]
    assert engine(tool, machine).info()["Name"] == machine


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("port", [2376, 4040])
def test_api_is_on_both_ports_and_refuses_strangers(tool: DockerMachine, machine: str, port: int) -> None:
    assert engine(tool, machine, port).ping()
    with pytest.raises((docker.errors.DockerException, OSError), match=r"certificate required|bad certificate"):
        engine(tool, machine, port, keys=False).info()


def test_docker_machines_own_commands_work(tool: DockerMachine) -> None:
    assert f'DOCKER_HOST="tcp://{ADDRESSES["myvm1"]}:2376"' in tool.call("env", "--shell", "sh", "myvm1")
    assert "Unknown" not in tool.call("ls", "--format", "{{.Name}} {{.DockerVersion}}")


def test_run_with_nothing_to_do_makes_three_calls_a_host_at_most(
    scenario: Any, tool: DockerMachine, tmp_path: Path
) -> None:
    with tool.counted(tmp_path) as (environment, calls):
        machines(scenario, f"docker_machine_executable={environment['DOCKER_MACHINE']}")
    assert 0 < len(calls) <= 3 * len(MACHINES), calls


def test_inventory_plugin_of_community_docker_leads_to_the_machines(tool: DockerMachine) -> None:
    plugin = "inventories/virtualbox/docker_machine.yml"
    said = tool.run("ansible", "-i", plugin, "all", "-m", "ansible.builtin.raw", "-a", "uname -n")
    assert {line for line in said.splitlines() if line in MACHINES} == set(MACHINES)


# Restarts


def test_addresses_and_data_outlive_a_restart_behind_our_back(scenario: Any, tool: DockerMachine) -> None:
    tool.ssh("myvm1", f"echo kept | sudo tee {DATA}/note; echo lost > /home/docker/note")
    tool.call("restart", "myvm1")
    assert tool.call("ip", "myvm1").strip() == ADDRESSES["myvm1"]
    assert engine(tool, "myvm1").ping()
    assert tool.ssh("myvm1", f"cat {DATA}/note; ls /home/docker") == "kept"


def test_paused_machine_is_started(scenario: Any, tool: DockerMachine) -> None:
    tool.virtualbox("controlvm", "myvm2", "pause")
    assert "start the machine" in machines(scenario)
    assert engine(tool, "myvm2").ping()


def test_machine_that_lost_its_address_gets_it_back(scenario: Any, tool: DockerMachine) -> None:
    tool.ssh("myvm2", "echo 'touch /tmp/mine' | sudo tee /var/lib/boot2docker/bootsync.sh")
    tool.call("stop", "myvm2")  # its engine will not find the address to listen on
    machines(scenario)
    assert tool.call("ip", "myvm2").strip() == ADDRESSES["myvm2"]
    assert tool.ssh("myvm2", "ls /tmp/mine") == "/tmp/mine"  # noqa: S108  the user's line is kept, and was run
    assert engine(tool, "myvm2").ping()


def test_another_address_is_refused_to_a_machine_of_a_swarm(scenario: Any, tool: DockerMachine) -> None:
    engine(tool, "myvm2").init_swarm(advertise_addr=ADDRESSES["myvm2"])
    try:
        output = machines(
            scenario, '{"docker_machine_number": "{{ inventory_hostname[-1] | int + 70 }}"}', succeeds=False
        )
        assert f"myvm2 is in a swarm as {ADDRESSES['myvm2']}, and its address is to be 192.168.58.72" in output
        assert tool.call("ip", "myvm2").strip() == ADDRESSES["myvm2"]
    finally:
        engine(tool, "myvm2").leave_swarm(force=True)
    machines(scenario)  # the other one has moved
    assert tool.call("ip", "myvm1").strip() == ADDRESSES["myvm1"]


# What docker-machine undoes, or leaves behind


def test_profile_that_docker_machine_wrote_anew_is_patched_again(scenario: Any, tool: DockerMachine) -> None:
    tool.call("provision", "myvm1")
    assert "4040" not in tool.ssh("myvm1", "cat /var/lib/boot2docker/profile")
    machines(scenario)
    assert engine(tool, "myvm1", 4040).ping()


def test_expired_certificate_is_renewed(scenario: Any, tool: DockerMachine) -> None:
    with tool.fault("certificate-expired"):
        tool.call("regenerate-certs", "-f", "myvm1")
    with pytest.raises((docker.errors.DockerException, OSError), match="certificate has expired"):
        engine(tool, "myvm1").ping()
    machines(scenario)
    assert engine(tool, "myvm1").ping()


def test_machine_of_somebody_else_is_refused(scenario: Any, tool: DockerMachine) -> None:
    path = tool.store("myvm1").directory / "config.json"
    ours = path.read_text()
    config = json.loads(ours)
    config["HostOptions"]["EngineOptions"]["Labels"] = []
    path.write_text(json.dumps(config))
    try:
        output = machines(scenario, succeeds=False)
        assert "docker-machine has a machine myvm1 that Apiary has not made" in output
        assert "not of this cluster, and left alone: myvm1" in " ".join(
            scenario.play("destroy", "-e", "destroy_confirmed=true", "--check").output.split()
        )
    finally:
        path.write_text(ours)


def test_key_that_others_may_read_is_told(scenario: Any, tool: DockerMachine) -> None:
    key = tool.store("myvm1").key
    key.chmod(0o644)
    try:
        assert f"{key} has mode 0644" in machines(scenario, succeeds=False)
    finally:
        key.chmod(0o600)


def test_difference_that_cannot_be_made_up_for_is_told(scenario: Any) -> None:
    output = machines(scenario, "docker_machine_memory_mib=2048")
    assert "was made with memory_mib 1024, and 2048 is asked for" in output


# Failures


def test_stop_that_never_ends_is_told_and_the_plug_pulled_when_asked_for(scenario: Any, tool: DockerMachine) -> None:
    other = (
        '{"docker_machine_number": "{{ inventory_hostname[-1] | int + 80 }}", "docker_machine_stop_timeout_seconds": 5}'
    )
    with tool.fault("stop-hangs", "myvm2"):
        started = time.monotonic()
        output = machines(scenario, other, succeeds=False)
        assert "docker_machine_force_stop=true, which pulls its plug" in output
        assert time.monotonic() - started < 90
        output = machines(scenario, other, "docker_machine_force_stop=true")
        assert tool.call("ip", "myvm2").strip() == "192.168.58.82"


def test_vm_that_was_deleted_is_told_and_made_anew_when_asked_for(scenario: Any, tool: DockerMachine) -> None:
    tool.virtualbox("controlvm", "myvm2", "poweroff")
    tool.virtualbox("unregistervm", "--delete", "myvm2")
    assert "the VM of myvm2 was deleted in VirtualBox" in machines(scenario, succeeds=False)
    with tool.fault("startvm-fails", "myvm2"):
        output = machines(scenario, "docker_machine_recreate=true", succeeds=False)
        assert "switch VT-x or AMD-V on" in output
        assert "What it has left of the machine is removed by the next run" in output
    machines(scenario)
    assert engine(tool, "myvm2").ping()


@pytest.mark.parametrize("point", ["Creating SSH key", "Setting Docker configuration"])
def test_create_that_was_killed_is_finished_by_the_next_run(scenario: Any, tool: DockerMachine, point: str) -> None:
    with tool.fault("dies", point):
        tool.call("rm", "-y", "myvm2")
        machines(scenario, succeeds=False)
    machines(scenario)
    assert tool.call("ip", "myvm2").strip() == ADDRESSES["myvm2"]
    assert engine(tool, "myvm2").ping()


def test_call_that_hangs_is_ended_and_told(scenario: Any, tool: DockerMachine) -> None:
    with tool.fault("hangs", "inspect"):
        output = machines(scenario, "docker_machine_query_timeout_seconds=3", succeeds=False)
    assert "'docker-machine inspect myvm1' had not ended after 3 s (docker_machine_query_timeout_seconds)" in output


def test_removal_leaves_no_machine(scenario: Any, tool: DockerMachine) -> None:
    scenario.play("destroy", "-e", "destroy_confirmed=true")
    assert list((tool.storage / "machines").iterdir()) == []
    assert tool.virtualbox("list", "vms") == ""
