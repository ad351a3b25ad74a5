# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bad input ends early with an error that names it and says what to do, and what ran before goes on running."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters import ROOT, Cluster

from .conftest import LOOPBACK


@pytest.fixture(autouse=True)
def web_goes_on(cluster: Cluster) -> Iterator[None]:
    """Whatever is refused, the same containers answer before and after."""
    before = cluster.web_containers()
    yield
    assert cluster.web_containers() == before
    assert len(cluster.answers("myvm1", 10)) == 5


def inventory(tmp_path: Path, hosts: str) -> str:
    """Return the path of an inventory with other hosts."""
    path = tmp_path / "inventory"
    shutil.copytree(ROOT / "inventories" / "qemu", path)
    (path / "hosts.yml").write_text(hosts)
    return str(path)


def test_template_that_does_not_parse(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "stack.yml.j2"
    path.write_text("services:\n  web:\n    image: {{ web_image }\n")
    output = cluster.play("stack", "-e", f"stack_template={path}", succeeds=False).output
    assert f"{path}" in output
    assert "line 3" in output


def test_template_that_is_no_yaml(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "stack.yml.j2"
    path.write_text("services:\n  web:\n   image: a\n  - b\n")
    output = cluster.play("stack", "-e", f"stack_template={path}", succeeds=False).output
    assert f"{path}" in output
    assert "line 4" in output


def test_replicas_of_the_wrong_type(cluster: Cluster) -> None:
    output = cluster.play("stack", "-e", "web_replicas=five", succeeds=False).output
    assert "replicas" in output
    assert "five" in output


def test_memory_of_the_wrong_type(cluster: Cluster) -> None:
    output = cluster.play("machines", "-e", "qemu_machine_memory_mib=lots", succeeds=False).output
    assert "qemu_machine_memory_mib" in output
    assert "lots" in output


def test_port_in_use_on_the_host(cluster: Cluster) -> None:
    with socket.socket() as taken:
        taken.bind((f"{LOOPBACK}.101", 4999))
        taken.listen()
        output = cluster.play("site", "-e", "web_port=4999", succeeds=False).output
    assert f"{LOOPBACK}.101:4999/tcp (myvm1) cannot be used on this host" in output


def test_wrong_provider_name(cluster: Cluster) -> None:
    output = cluster.play("site", "-e", "machine_provider=qemu", succeeds=False).output
    assert "machine_provider of myvm1, myvm2 is 'qemu'" in output
    assert "qemu_machine" in output


def test_unknown_host_name(cluster: Cluster) -> None:
    output = cluster.play("site", "--limit", "myvm3", succeeds=False).output
    assert "myvm3" in output


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("managers: {hosts: {myvm1: }}\nworkers: {hosts: {myvm1: }}\n", "myvm1: in both groups"),
        ("managers:\n  hosts:\n    myvm1:\n    myvm1:\n", "myvm1"),
        ("managers: {hosts: {}}\nworkers: {hosts: {myvm1: }}\n", "no host in the group 'managers'"),
        ("managers: {hosts: {myvm1: }}\nbees: {hosts: {myvm2: }}\n", "myvm2: neither in the group"),
        (
            "managers: {hosts: {myvm1: }}\nworkers: {hosts: {other: {qemu_machine_number: 101}}}\n",
            f"{LOOPBACK}.101 is the address of myvm1 and other",
        ),
        ("managers: {hosts: {bee: }}\n", "set qemu_machine_number"),
        ("managers: {hosts: {my_vm1: }}\n", "'my_vm1' cannot be a host name"),
    ],
    ids=["both-groups", "twice", "no-manager", "no-group", "one-address", "no-number", "underscore"],
)
def test_inventory_that_cannot_work(cluster: Cluster, tmp_path: Path, hosts: str, expected: str) -> None:
    output = cluster.play("machines", inventory=inventory(tmp_path, hosts), succeeds=False).output
    assert expected in output


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("qemu_machine_memory_mib=9000000", "MiB of memory and"),
        ("qemu_machine_lan_network=office", "qemu_machine_lan_network is 'office'"),
        ("qemu_machine_disk_gib=0", "qemu_machine_disk_gib is 0"),
    ],
)
def test_resources_that_are_not_there(cluster: Cluster, tmp_path: Path, setting: str, expected: str) -> None:
    hosts = "managers: {hosts: {myvm8: }}\nworkers: {hosts: {myvm9: }}\n"
    output = cluster.play("machines", "-e", setting, inventory=inventory(tmp_path, hosts), succeeds=False).output
    assert expected in output


def test_missing_tool(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("bash", "env", "sh", "uname"):
        (tmp_path / program).symlink_to(shutil.which(program) or program)
    monkeypatch.setattr(Cluster, "environment", {**cluster.environment, "PATH": str(tmp_path)})
    command = cluster.command
    tool = shutil.which("ansible-playbook") or ""
    monkeypatch.setattr(Cluster, "command", lambda self, *a, **k: [tool, *command(*a, **k)[1:]])
    output = cluster.play("machines", succeeds=False).output
    assert "qemu-system-x86_64 is missing on this host" in output
