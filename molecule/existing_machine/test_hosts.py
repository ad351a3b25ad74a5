# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role existing_machine: hosts with SSH and sudo become nodes, and what keeps them from it is named."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clusters import run_until
from tests.plain_hosts import BOB, PROJECT, PlainHosts, client

CLUSTER = "molecule-existing-machine"
DIRECTORY = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "state" / "hosts"
HOSTS = {"host1": "root", "host2": "ann", "host3": "bob"}
SOCKETS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "apiary" / "ssh" / CLUSTER
CONVERGE = "molecule/existing_machine/converge.yml"
DAEMON = "/etc/docker/daemon.json"
WRITE = f"mkdir -p /etc/docker && cat >{DAEMON} <<'END'\n%s\nEND"


@pytest.fixture(scope="session")
def hosts() -> PlainHosts:
    """The hosts, as somebody sees them who sits at them."""
    return PlainHosts(f"{CLUSTER}-host", DIRECTORY)


@pytest.fixture(scope="session")
def address(scenario: Any) -> Any:
    """A host's address, by its name."""
    return lambda name: f"192.168.{scenario.range}.20{name[-1]}"


@pytest.fixture
def inventory(tmp_path: Path) -> Any:
    """Make an inventory of some of the hosts, where they differ from what the scenario's says."""

    def make(managers: list[str], workers: list[str], /, **differences: dict[str, Any]) -> Path:
        (tmp_path / "group_vars").unlink(missing_ok=True)
        (tmp_path / "group_vars").symlink_to(PROJECT / "molecule" / "inventory" / "group_vars")
        own = {name: {"ansible_user": user} for name, user in HOSTS.items()}
        own["host3"]["ansible_become_password"] = BOB
        own["host4"] = {"ansible_user": "ann"}
        all_hosts = {name: {**own[name], **differences.get(name, {})} for name in [*managers, *workers]}
        groups: dict[str, Any] = {"managers": managers, "workers": workers}
        content = {group: {"hosts": dict.fromkeys(names)} for group, names in groups.items()}
        path = tmp_path / "hosts.json"
        path.write_text(json.dumps({"plain": {"hosts": all_hosts}, **content}))
        return path

    return make


def said(run: Any) -> str:
    return " ".join(run.output.split())


def api(host: str) -> Any:
    """A host's engine, through the socket that the last run has left."""
    return client(f"unix://{SOCKETS / host}.sock").api


def pid(hosts: PlainHosts, host: str) -> str:
    return hosts.run(host, "cat /var/run/docker.pid")


# What became of the hosts


@pytest.mark.parametrize("host", HOSTS)
def test_host_has_an_engine_that_is_reached_over_ssh(hosts: PlainHosts, host: str) -> None:
    assert api(host).info()["Name"] == host


def test_they_are_one_swarm(address: Any) -> None:
    nodes = {node["Description"]["Hostname"]: node["Status"] for node in api("host1").nodes()}
    assert {name: (status["State"], status["Addr"]) for name, status in nodes.items()} == {
        name: ("ready", address(name)) for name in HOSTS
    }


@pytest.mark.parametrize("host", HOSTS)
def test_engine_has_no_tcp_port(hosts: PlainHosts, host: str) -> None:
    rows = [line.split() for line in hosts.run(host, "ss -Hltnp").splitlines()]
    of_engine = {row[3].rpartition(":")[2] for row in rows if "dockerd" in row[-1]}
    assert of_engine <= {"2377", "7946"}  # what nodes use among themselves, with TLS of the swarm's own


def test_socket_on_this_computer_is_its_owners_alone() -> None:
    assert SOCKETS.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("host", "user"), [("host2", "ann"), ("host3", "bob")])
def test_user_may_use_the_engine_by_sudo_only(hosts: PlainHosts, host: str, user: str) -> None:
    assert "docker" not in hosts.run(host, f"id -nG {user}").split()
    assert hosts.run(host, "stat -c %a /var/run/docker.sock").strip() == "660"


def test_password_is_in_no_output_no_file_and_no_command_line(scenario: Any) -> None:
    run = scenario.play(CONVERGE, "-vvv", "--diff")
    assert BOB not in run.output
    assert "host3" in run.output
    words = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(BOB.encode() in line for line in words)
    assert not any(BOB.encode() in path.read_bytes() for path in SOCKETS.iterdir() if path.is_file())


def test_second_run_restarts_no_engine(scenario: Any, hosts: PlainHosts) -> None:
    before = {host: pid(hosts, host) for host in HOSTS}
    scenario.play(CONVERGE)
    assert {host: pid(hosts, host) for host in HOSTS} == before


def test_connection_that_has_died_is_opened_anew(scenario: Any, hosts: PlainHosts) -> None:
    for host in HOSTS:
        hosts.run(host, "pkill -f '^sshd: (root|ann|bob)' || true")
    scenario.play("swarm")
    assert [api(host).ping() for host in HOSTS] == [True] * 3


def test_stack_answers_through_every_host(scenario: Any, address: Any) -> None:
    # The images go through the sockets too, also through the one that asks for a password each time.
    run = scenario.play("site")
    for host in HOSTS:
        assert f"http://{address(host)}:4000" in run.output
    assert scenario.play("verify").status == 0


# daemon.json


def test_daemon_json_is_merged_and_the_old_one_kept(scenario: Any, hosts: PlainHosts) -> None:
    hosts.run("host2", WRITE % '{"log-opts": {"max-size": "1m"}, "debug": false}')
    wanted = {"existing_machine_daemon_json": {"log-driver": "json-file", "debug": True}}
    before = {host: pid(hosts, host) for host in HOSTS}
    run = scenario.play(CONVERGE, "--diff", "-e", json.dumps(wanted))
    assert json.loads(hosts.run("host2", f"cat {DAEMON}")) == {
        "log-opts": {"max-size": "1m"}, "debug": False, "log-driver": "json-file",
    }  # fmt: skip
    assert "host2: /etc/docker/daemon.json has debug otherwise than existing_machine_daemon_json" in said(run)
    assert "log-driver" not in hosts.run("host2", f"cat {DAEMON}.before-apiary")
    assert json.loads(hosts.run("host1", f"cat {DAEMON}")) == wanted["existing_machine_daemon_json"]
    assert all(pid(hosts, host) != before[host] for host in HOSTS)
    assert said(scenario.play(CONVERGE, "-e", json.dumps(wanted))).count("changed=0") == 3


def test_engine_that_does_not_come_up_gets_its_old_daemon_json_back(scenario: Any, hosts: PlainHosts) -> None:
    before = hosts.run("host1", f"cat {DAEMON}")
    wanted = {"existing_machine_daemon_json": {"storage-driver": "abacus"}, "existing_machine_timeout_seconds": 15}
    run = scenario.play("machines", "-e", json.dumps(wanted), "--limit", "host1", succeeds=False)
    assert "The old /etc/docker/daemon.json is in place again, and the engine runs with it" in said(run)
    assert "abacus" in run.output  # the end of the engine's log
    assert hosts.run("host1", f"cat {DAEMON}") == before
    assert api("host1").ping()


# Engines that do not run


def test_engine_that_died_is_started(scenario: Any, hosts: PlainHosts) -> None:
    hosts.run("host2", "service docker stop")
    hosts.run("host3", "kill -9 $(cat /var/run/docker.pid)")
    scenario.play(CONVERGE)
    assert {node["Status"]["State"] for node in api("host1").nodes()} == {"ready"}


# What keeps hosts from being nodes, before anything is changed


@pytest.fixture
def faults(hosts: PlainHosts) -> Iterator[None]:
    """Hosts with faults of several kinds; and what they do not show is set right afterwards."""
    undo = {
        "host1": "rm -f /usr/local/bin/date",
        "host2": "cp /root/machine-id /etc/machine-id",
        "host3": "hostname host3",
    }
    date = "#!/bin/sh\\necho $(($(/bin/date +%%s) + 900))\\n"
    hosts.run("host1", f"printf '{date}' >/usr/local/bin/date; chmod 755 /usr/local/bin/date")
    hosts.run("host2", "cp /etc/machine-id /root/machine-id")
    hosts.run("host2", f"echo {hosts.run('host1', 'cat /etc/machine-id').strip()} >/etc/machine-id")
    hosts.run("host3", "hostname host2")
    yield
    for host, script in undo.items():
        hosts.run(host, script)


def test_clocks_names_and_ids_are_compared(scenario: Any, faults: None) -> None:
    text = said(scenario.play("machines", "--check", succeeds=False))
    assert "Nothing has been changed" in text
    assert re.search(r"host1: its clock is \d+ s ahead of the others', more than 60 \(existing_machine_clock_", text)
    assert "host1 and host2: have the same machine-id" in text
    assert "host2 and host3: have the same host name (host2)" in text


def test_hosts_that_cannot_be_reached_are_all_named(
    scenario: Any, hosts: PlainHosts, address: Any, inventory: Any, tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)], check=True)
    wrong = inventory(
        ["host1"],
        ["host2", "host3"],
        host1={"ansible_host": address("host9")[:-1] + "9", "ansible_timeout": 3},
        host2={"ansible_ssh_private_key_file": str(stranger)},
        host3={"ansible_become_password": "battery staple"},
    )
    text = said(scenario.play("machines", inventory=wrong, succeeds=False))
    assert "Nothing has been changed" in text
    assert re.search(r"host1 \(root@\S+\): does not answer: is it running, is ansible_host right", text)
    assert f"host2 (ann@{address('host2')}): does not let ann in with the key {stranger}" in text
    assert "host3 (bob@" in text
    assert "the sudo password of bob is wrong: correct ansible_become_password" in text
    assert "battery staple" not in text


def test_host_keys_are_checked_and_the_cure_is_told(
    scenario: Any, hosts: PlainHosts, address: Any, inventory: Any, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    other = hosts.known_hosts.read_text().splitlines()[0].split(" ", 1)[1]
    known.write_text(f"{address('host2')} {other}\n{address('host3')} {other}\n")
    arguments = {"ansible_ssh_common_args": f"-o UserKnownHostsFile={known}"}
    wrong = inventory(
        ["host1"], ["host2", "host3"], host1=arguments, host2=arguments, host3={"ansible_become_password": ""}
    )
    text = said(scenario.play("machines", inventory=wrong, succeeds=False))
    assert "host1 (root@" in text
    assert f"say yes: ssh -i {hosts.key} -o UserKnownHostsFile={known} root@{address('host1')}" in text
    assert f"forget the old key: ssh-keygen -f {known} -R {address('host2')}" in text
    assert "sudo wants a password of bob: run with --ask-become-pass" in text


def test_password_may_come_from_the_environment(scenario: Any, inventory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_BECOME_PASS", BOB)
    without = inventory(["host1"], ["host2", "host3"], host3={"ansible_become_password": None})
    path = without.read_text().replace('"ansible_become_password": null', '"x": 1')
    without.write_text(path)
    assert "changed=0" in scenario.play("machines", inventory=without).output


def test_address_that_changed_is_told(scenario: Any, hosts: PlainHosts, address: Any, inventory: Any) -> None:
    bridge = hosts.run("host2", "ip -o -4 addr show docker_gwbridge | awk '{print $4}'").partition("/")[0]
    other = inventory(["host1"], ["host2", "host3"], host2={"existing_machine_address": bridge})
    text = said(scenario.play("machines", inventory=other, succeeds=False))
    assert f"host2: is in its swarm as {address('host2')}, and its address is {bridge}" in text


# A host more


@pytest.fixture(scope="module")
def grown(hosts: PlainHosts) -> None:
    """The fourth host, which has a firewall that lets SSH in alone."""
    hosts.run("host4", "apt-get -qq update && apt-get -qq --yes install nftables >/dev/null 2>&1")
    hosts.run(
        "host4",
        """cat >/etc/nftables.conf <<'END'
#!/usr/sbin/nft -f
table inet filter {
  chain input {
    type filter hook input priority filter; policy drop;
    iif lo accept
    ct state established,related accept
    tcp dport 22 accept
    tcp dport { 2377, 7946 } accept
    udp dport 4789 accept
  }
}
END
nft -f /etc/nftables.conf""",
    )


FOUR = (["host1"], ["host2", "host3", "host4"])


def test_port_that_a_firewall_drops_is_found_and_named(scenario: Any, grown: None, inventory: Any) -> None:
    text = said(scenario.play("machines", inventory=inventory(*FOUR), succeeds=False))
    assert "Nothing has been changed" in text
    assert "host4 cannot be reached at 7946/udp from host1, host2, host3" in text
    assert "existing_machine_firewall: true" in text


def test_what_is_there_keeps_a_new_host_out(scenario: Any, hosts: PlainHosts, grown: None, inventory: Any) -> None:
    hosts.run("host4", "cp /etc/os-release /root/; echo ID=plan9 >/etc/os-release")
    try:
        text = said(scenario.play("machines", inventory=inventory(*FOUR), succeeds=False))
    finally:
        hosts.run("host4", "cp /root/os-release /etc/os-release")
    assert "host4: is plan9, for which there is no way here to install an engine" in text


def test_run_that_was_killed_while_it_installed_is_finished_by_the_next(
    scenario: Any, hosts: PlainHosts, grown: None, inventory: Any
) -> None:
    before = {host: pid(hosts, host) for host in HOSTS}
    four = inventory(*FOUR)
    firewall = ["-e", "existing_machine_firewall=true"]
    command = ["ansible-playbook", "-i", str(four), "playbooks/machines.yml", *firewall]
    run_until(command, os.environ, "host4: install the engine", seconds=6)
    scenario.play(CONVERGE, *firewall, inventory=four)
    assert {node["Description"]["Hostname"] for node in api("host1").nodes()} == {*HOSTS, "host4"}
    assert {host: pid(hosts, host) for host in HOSTS} == before  # only the new host was worked on


def test_firewall_is_open_for_nodes_alone_also_after_a_restart(
    scenario: Any, hosts: PlainHosts, grown: None, address: Any
) -> None:
    hosts.run("host4", "nft delete table inet filter && nft -f /etc/nftables.conf")
    rules = hosts.run("host4", "nft list chain inet filter input")
    others = ", ".join(address(host) for host in HOSTS)
    assert (
        f'ip saddr {{ {others} }} udp dport {{ 4789, 7946 }} accept comment "apiary-molecule-existing-machin"' in rules
    )
    assert rules.count("apiary-") == 2


def test_user_joins_the_group_of_the_socket_when_asked_to(
    scenario: Any, hosts: PlainHosts, grown: None, inventory: Any
) -> None:
    four = inventory(*FOUR)
    run = scenario.play("machines", "-e", "existing_machine_docker_group=true", "--limit", "host4", inventory=four)
    assert "changed=1" in run.output
    assert "docker" in hosts.run("host4", "id -nG ann").split()
    assert not list(SOCKETS.glob("host4-*.relay"))  # forwarded by ssh itself from now on
    assert api("host4").ping()


# Taking the hosts out


def test_hosts_leave_the_swarm_and_what_is_others_stays(
    scenario: Any, hosts: PlainHosts, grown: None, inventory: Any
) -> None:
    engine = client(f"unix://{SOCKETS / 'host2.sock'}")
    mine = engine.containers.run(
        engine.images.list()[0], entrypoint=["/bin/sh", "-c", "sleep 3600"], name="mine", detach=True
    )
    engine.volumes.create("mine")
    four = inventory(*FOUR)
    run = scenario.play("destroy", "-e", "destroy_confirmed=true", inventory=four)
    assert "removed: host1, host2, host3, host4; kept: the hosts" in said(run)
    assert not list(SOCKETS.iterdir())  # no connection is left either
    states = {host: hosts.run(host, "docker info --format '{{.Swarm.LocalNodeState}}'").strip() for host in HOSTS}
    assert set(states.values()) == {"inactive"}
    assert hosts.run("host2", "docker ps --format '{{.Names}}'").split() == ["mine"]
    assert hosts.run("host2", "docker volume ls --format '{{.Name}}'").split() == ["mine"]
    assert mine.id
    again = scenario.play("destroy", "-e", "destroy_confirmed=true", inventory=four)
    assert "removed: nothing, no host was in the swarm" in said(again)


def test_swarm_of_somebody_else_is_not_touched(scenario: Any, hosts: PlainHosts, inventory: Any) -> None:
    hosts.run("host1", "docker swarm init")
    try:
        text = said(scenario.play("machines", succeeds=False))
        assert "host1: manages a swarm already, which Apiary has not created" in text
        assert "sudo docker swarm leave --force" not in text  # root needs none
        run = scenario.play("destroy", "-e", "destroy_confirmed=true")
        assert "in a swarm of others, and left alone: host1" in said(run)
        assert hosts.run("host1", "docker info --format '{{.Swarm.LocalNodeState}}'").strip() == "active"
    finally:
        hosts.run("host1", "docker swarm leave --force")


def test_stopped_and_started(scenario: Any, hosts: PlainHosts, tmp_path: Path) -> None:
    play = tmp_path / "play.yml"
    for verb, state in (("stop", "stopped"), ("start", "running")):
        play.write_text(json.dumps([{
            "name": verb, "hosts": "host2", "gather_facts": False,
            "tasks": [{"ansible.builtin.include_role": {"name": "existing_machine", "tasks_from": verb}}],
        }]))  # fmt: skip
        scenario.play(str(play))
        running = hosts.run("host2", "service docker status || true")
        assert ("is running" in running) == (state == "running")
