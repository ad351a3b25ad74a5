# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The stand-in for docker-machine, with machines that run: what it says, and what its guests are and keep."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.docker_machine.transcripts import Call, Computer, cases

CASES = cases("machines.txt")
CREATE = "docker-machine create {options} --virtualbox-hostonly-cidr 192.168.96.1/24"
#: as a user pins an address; eth1 is the host-only interface
BOOTSYNC = """\
kill $(cat /var/run/udhcpc.eth1.pid)
ip address flush dev eth1
ip address add 192.168.96.40/24 broadcast + dev eth1
date >/var/lib/boot2docker/booted
pidof dockerd >>/var/lib/boot2docker/booted
"""


@pytest.fixture
def computer(outer_engine: None) -> Iterator[Computer]:
    with tempfile.TemporaryDirectory(prefix="apiary-") as directory:
        found = Computer(Path(directory))
        assert found.run("VBoxManage stand-in-image", timeout=900).returncode == 0
        try:
            yield found
        finally:
            found.clear()


@pytest.fixture(scope="module")
def machine(outer_engine: None) -> Iterator[Computer]:
    """A computer with one machine, m1, for tests that leave it running."""
    with tempfile.TemporaryDirectory(prefix="apiary-") as directory:
        found = Computer(Path(directory))
        assert found.run("VBoxManage stand-in-image", timeout=900).returncode == 0
        try:
            done = found.run(f"{CREATE} --tls-san m1.lan --tls-san 192.168.96.40 m1")
            assert done.returncode == 0, done.stdout + done.stderr
            yield found
        finally:
            found.clear()


def inside(computer: Computer, command: str) -> str:
    """What a command of the guest's shell prints."""
    done = computer.run(f"docker-machine ssh m1 {command!r}")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("calls", CASES.values(), ids=CASES)
def test_answers_are_those_recorded(computer: Computer, calls: list[Call]) -> None:
    computer.follow(calls)


@pytest.mark.parametrize("tool", ["python", "python3", "perl", "apt-get", "systemctl", "jq"])
def test_guest_lacks_what_boot2docker_lacks(machine: Computer, tool: str) -> None:
    assert machine.run(f"docker-machine ssh m1 command -v {tool}").returncode == 1


@pytest.mark.parametrize("tool", ["bash", "curl", "docker", "iptables", "openssl", "sudo", "tar", "netstat"])
def test_guest_has_what_boot2docker_has(machine: Computer, tool: str) -> None:
    assert inside(machine, f"command -v {tool}").strip().endswith(tool)


def test_guest_is_boot2docker_to_its_user(machine: Computer) -> None:
    assert "ID=boot2docker\n" in inside(machine, "cat /etc/os-release")
    assert inside(machine, "id -u; sudo -n id -u; hostname; readlink /bin/sh").split() == ["1000", "0", "m1", "busybox"]
    assert "inet 10.0.2.15/24 " in inside(machine, "ip -4 address show dev eth0")
    assert inside(machine, "stat -c %F /var/lib/docker /var/lib/boot2docker").split("\n")[:2] == ["symbolic link"] * 2


def test_certificate_is_for_the_names_the_address_and_localhost(machine: Computer) -> None:
    home = machine.store / "machines" / "m1"
    certificate = x509.load_pem_x509_certificate((home / "server.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["m1.lan", "localhost"]
    assert sorted(map(str, names.get_values_for_type(x509.IPAddress))) == ["192.168.96.100", "192.168.96.40"]
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 1080
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 2048
    for name in ("ca.pem", "cert.pem", "key.pem"):
        assert (home / name).read_bytes() == (machine.store / "certs" / name).read_bytes()


def test_engine_serves_only_who_has_a_certificate(machine: Computer) -> None:
    home = machine.store / "machines" / "m1"
    address = machine.run("docker-machine url m1").stdout.strip().replace("tcp", "https")
    keys = (str(home / "cert.pem"), str(home / "key.pem"))
    assert requests.get(f"{address}/version", verify=str(home / "ca.pem"), cert=keys, timeout=20).status_code == 200
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{address}/version", verify=str(home / "ca.pem"), timeout=20)


def test_root_is_lost_at_a_restart_and_data_and_a_pinned_address_stay(machine: Computer) -> None:
    inside(machine, "sudo touch /lost /home/docker/lost; sudo mkdir -p /var/lib/boot2docker/web")
    inside(machine, f"echo {BOOTSYNC!r} | sed 's/\\\\n/\\n/g' | sudo tee /var/lib/boot2docker/bootsync.sh")
    for _ in range(2):
        done = machine.run("docker-machine restart m1")
        assert done.returncode == 0, done.stderr
        assert machine.run("docker-machine ip m1").stdout == "192.168.96.40\n"
    assert inside(machine, "ls -d /lost /home/docker/lost /var/lib/boot2docker/web 2>&1 | grep -v No") == (
        "/var/lib/boot2docker/web\n"
    )
    # Without a process ID: bootsync.sh comes before the engine.
    assert len(inside(machine, "cat /var/lib/boot2docker/booted").splitlines()) == 1
    assert machine.run("docker-machine env m1").returncode == 0  # the certificate was made for both addresses
