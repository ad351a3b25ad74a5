# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The stand-in for docker-machine says what docker-machine says, as far as no machine has to run."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from tests.docker_machine.transcripts import REAL, Call, Computer, cases

CASES = cases("calls.txt")


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return Computer(tmp_path, own_range())


def own_range() -> str:
    """A range that an interface of this computer has, but for loopback; empty when there is no such interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return ""
        address = str(probe.getsockname()[0])
    return "" if address.startswith("127.") else f"{address}/24"


@pytest.mark.parametrize("calls", CASES.values(), ids=CASES)
def test_answers_are_those_recorded(computer: Computer, calls: list[Call]) -> None:
    if any("{taken}" in call.command for call in calls) and not computer.words["taken"]:
        pytest.skip("this computer has no interface but loopback")
    computer.follow(calls)


@pytest.mark.skipif(bool(REAL), reason="the real one cannot be made to hang")
def test_a_command_may_hang(computer: Computer) -> None:
    (computer.faults / "hangs").write_text("ls\n")
    began = time.monotonic()
    assert computer.run("timeout 2 docker-machine ls").returncode == 124
    assert time.monotonic() - began >= 2
    assert computer.run("docker-machine active").stderr == "No active host found\n"


def test_keys_are_for_their_owner_alone(computer: Computer) -> None:
    computer.run("docker-machine create {options} --virtualbox-hostonly-cidr 192.168.96.0/24 e1")
    for path in ("certs", "machines/e1"):
        assert (computer.store / path).stat().st_mode & 0o777 == 0o700
    for path in ("certs/ca-key.pem", "certs/key.pem", "machines/e1/id_rsa", "machines/e1/config.json"):
        assert (computer.store / path).stat().st_mode & 0o777 == 0o600, path
    names = {entry.name for entry in os.scandir(computer.store / "machines" / "e1")}
    assert names == {"boot2docker.iso", "config.json", "disk.vmdk", "e1", "id_rsa", "id_rsa.pub"}


def test_whoever_makes_the_authority_second_fails(computer: Computer) -> None:
    (computer.store / "certs").mkdir(parents=True)
    (computer.store / "certs" / "ca-key.pem").touch()
    done = computer.run("docker-machine create -d none --url tcp://127.0.0.1:23 x")
    assert done.stderr == "Error generating certificates: certificate authority key already exists\n"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("conf", "address", "status"),
    [
        ("", "192.168.56.1", 0),
        ("", "192.168.63.254", 0),
        ("", "192.168.64.1", 1),
        ("", "192.168.99.1", 1),
        ("* 192.168.99.0/24\n", "192.168.99.1", 0),
        ("192.168.99.0/24\n", "192.168.99.1", 1),  # the star belongs there
        ("* 0.0.0.0/0 ::/0\n", "10.1.2.3", 0),
        ("* 10.0.0.0/8\n", "192.168.56.1", 1),  # what is written there is all
    ],
)
def test_virtualbox_allows_few_ranges_unless_told_otherwise(
    computer: Computer, conf: str, address: str, status: int
) -> None:
    networks = computer.directory / "networks.conf"
    networks.unlink()
    if conf:
        networks.write_text(conf)
    computer.run("VBoxManage hostonlyif create")
    done = computer.run(f"VBoxManage hostonlyif ipconfig vboxnet0 --ip {address}")
    assert done.returncode == status
    assert ("E_ACCESSDENIED" in done.stderr) == bool(status)
