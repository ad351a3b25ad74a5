# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""QEMU machines, as far as they can be told without starting one."""

from __future__ import annotations

import json
import re
import stat
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.apiary.swarm.plugins.action import qemu_machine
from ansible_collections.apiary.swarm.plugins.module_utils import qemu
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.pki import ensure_authority
from ansible_collections.apiary.swarm.plugins.module_utils.qmp import Forward, parse_usernet
from ansible_collections.apiary.swarm.plugins.modules.qemu_machine import ARGUMENT_SPEC

MACHINE = qemu.Machine(
    name="myvm1",
    cluster_directory=Path("/state/apiary"),
    image=Path("/cache/image"),
    memory_mib=1024,
    cpus=1,
    disk_gib=10,
    entrypoint="127.0.99.101",
    lan_address="192.168.99.101",
    lan_prefix=24,
    multicast="230.0.99.1:12399",
    forwards=frozenset({Forward("tcp", 4000, 4000), Forward("udp", 5353, 5353)}),
)
API, SSH = Forward("tcp", 2376, 2376), Forward("tcp", 2222, 22)


def test_every_forward_listens_on_the_entrypoint_alone() -> None:
    nat = next(word for word in qemu.command_line(MACHINE, "tcg", "") if word.startswith("user,"))
    rules = [part.removeprefix("hostfwd=") for part in nat.split(",") if part.startswith("hostfwd=")]
    assert sorted(rules) == [
        "tcp:127.0.99.101:2222-:22",
        "tcp:127.0.99.101:2376-:2376",
        "tcp:127.0.99.101:4000-:4000",
        "udp:127.0.99.101:5353-:5353",
    ]


@pytest.mark.parametrize(
    ("accelerator", "model", "accel_word", "cpu_word"),
    [
        ("kvm", "", "kvm", "host"),
        ("kvm", "Skylake-Client", "kvm", "Skylake-Client"),
        ("tcg", "", "tcg,thread=multi,tb-size=512", qemu.EMULATED_CPU),
        ("tcg", "max", "tcg,thread=multi,tb-size=512", "max"),
    ],
)
def test_accelerator_chooses_the_cpu(accelerator: str, model: str, accel_word: str, cpu_word: str) -> None:
    words = qemu.command_line(MACHINE, accelerator, model)
    assert words[words.index("-accel") + 1] == accel_word
    assert words[words.index("-cpu") + 1] == cpu_word


def test_cards_of_two_machines_differ() -> None:
    other = replace(MACHINE, entrypoint="127.0.99.102", lan_address="192.168.99.102")
    cards = [MACHINE.lan_mac(), MACHINE.nat_mac(), other.lan_mac(), other.nat_mac()]
    assert cards == ["52:54:00:a8:63:65", "52:54:01:00:63:65", "52:54:00:a8:63:66", "52:54:01:00:63:66"]


def test_forwards_are_read_from_what_qemu_prints() -> None:
    printed = """Hub -1 (nat):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  14    127.0.99.101  4000       10.0.2.15  4000     0     0
  TCP[HOST_FORWARD]  13    127.0.99.101  2222       10.0.2.15    22     0     0
  UDP[HOST_FORWARD]  15    127.0.99.101  5353       10.0.2.15  5353     0     0
  TCP[ESTABLISHED]   20    127.0.99.101  4000       10.0.2.15  4000     0     0
"""
    assert parse_usernet(printed) == {Forward("tcp", 4000, 4000), SSH, Forward("udp", 5353, 5353)}


class RunningMachine:
    """The monitor of a machine that forwards its API, SSH and another stack's port."""

    commands: list[str]

    def __init__(self, _path: Path) -> None:
        RunningMachine.commands = []

    def __enter__(self) -> RunningMachine:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def forwards(self) -> set[Forward]:
        return {API, SSH, Forward("tcp", 9000, 9000), Forward("tcp", 4000, 4000)}

    def human(self, line: str) -> str:
        self.commands.append(line)
        return ""


@pytest.mark.parametrize("check_mode", [False, True])
def test_what_is_missing_is_forwarded_and_what_others_need_stays(
    monkeypatch: pytest.MonkeyPatch, check_mode: bool
) -> None:
    monkeypatch.setattr(qemu, "Monitor", RunningMachine)
    assert qemu.set_forwards(MACHINE, check_mode=check_mode) == ["forward port 5353"]
    assert RunningMachine.commands == ([] if check_mode else ["hostfwd_add nat udp:127.0.99.101:5353-:5353"])


@pytest.fixture
def prepared(tmp_path: Path) -> qemu.Machine:
    machine = replace(MACHINE, cluster_directory=tmp_path, disk_gib=2)
    ensure_authority(tmp_path / "pki", "apiary")
    (tmp_path / "ssh").mkdir()
    qemu.prepare(machine)
    return machine


def test_no_file_of_a_machine_is_for_others_to_read(prepared: qemu.Machine) -> None:
    files = [path for path in prepared.cluster_directory.rglob("*") if path.is_file()]
    assert {"key.pem", "config.tar", "ssh_host_ed25519_key", "disk.img", "ca-key.pem"} <= {path.name for path in files}
    assert [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_the_machine_gets_its_own_identity_and_no_authority_key(prepared: qemu.Machine) -> None:
    with tarfile.open(prepared.directory / "config.tar") as archive:
        content = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
        modes = {member.name: member.mode for member in archive}
    own = prepared.directory
    assert content["etc/apiary/tls/server.pem"] == (own / "cert.pem").read_bytes() + (own / "key.pem").read_bytes()
    assert content["etc/apiary/tls/ca.pem"] == (prepared.cluster_directory / "pki" / "ca.pem").read_bytes()
    assert re.fullmatch(rb"[0-9a-f]{32}\n", content["etc/machine-id"])
    assert modes["etc/apiary/tls/server.pem"] == 0o600
    authority_key = (prepared.cluster_directory / "pki" / "ca-key.pem").read_bytes()
    assert not [name for name, text in content.items() if authority_key in text]


def test_every_identity_has_the_size_that_a_template_knows(prepared: qemu.Machine) -> None:
    assert (prepared.directory / "config.tar").stat().st_size == qemu.CONFIG_BYTES


def test_a_clone_boots_from_its_own_changes_on_its_templates_disk(tmp_path: Path) -> None:
    clone = replace(MACHINE, cluster_directory=tmp_path)
    clone.directory.mkdir(parents=True)
    clone.overlay_path.touch()
    drives = [word for word in qemu.command_line(clone, "tcg", "") if word.startswith(f"file={clone.directory}")]
    assert drives == [
        f"file={clone.overlay_path},format=qcow2,backing.driver=raw,backing.file.filename={clone.base_path},"
        "if=virtio,cache=writeback,discard=unmap"
    ]


def test_a_clone_whose_base_is_gone_says_what_to_do(prepared: qemu.Machine) -> None:
    prepared.disk_path.rename(prepared.overlay_path)
    prepared.base_path.symlink_to("/cache/golden/gone/disk")
    with pytest.raises(ApiaryError, match=r"/cache/golden/gone/disk, which is gone .* remove .*myvm1: the next run"):
        qemu.prepare(prepared)


def test_preparing_again_keeps_disk_and_keys(prepared: qemu.Machine) -> None:
    disk = prepared.disk_path.stat()
    config = (prepared.directory / "config.tar").read_bytes()
    qemu.prepare(prepared)
    assert prepared.disk_path.stat().st_ino == disk.st_ino
    assert (prepared.directory / "config.tar").read_bytes()[:512] == config[:512]
    assert (prepared.directory / "key.pem").read_bytes() in (prepared.directory / "config.tar").read_bytes()


def test_a_half_made_disk_is_made_again(tmp_path: Path, prepared: qemu.Machine) -> None:
    prepared.disk_path.rename(prepared.disk_path.with_name("disk.img.making"))
    qemu.prepare(prepared)
    assert prepared.disk_path.stat().st_size == 2 << 30
    assert not prepared.disk_path.with_name("disk.img.making").exists()


def test_settings_that_hold_from_the_next_start_are_named(prepared: qemu.Machine) -> None:
    (prepared.directory / "machine.json").write_text(json.dumps(qemu.settings(prepared)))
    assert qemu.pending_changes(prepared) == {}
    assert qemu.pending_changes(replace(prepared, memory_mib=2048)) == {"memory_mib": (1024, 2048)}


# The end of a machine


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """How machines were ended: gracefully or not."""
    found: list[bool] = []

    def stop(_directory: Path, *, graceful: bool, timeout_seconds: float = 0) -> bool:
        found.append(graceful)
        return True

    monkeypatch.setattr(qemu_machine, "is_running", lambda _path: not found)
    monkeypatch.setattr(qemu, "stop", stop)
    return found


def outcome(machine: qemu.Machine, state: str, *, check: bool = False, **given: Any) -> dict[str, Any]:
    made = qemu_machine.ActionModule.__new__(qemu_machine.ActionModule)
    made._task = MagicMock(check_mode=check, diff=False)
    params = {name: option.get("default") for name, option in ARGUMENT_SPEC.items()} | {
        "name": machine.name,
        "state": state,
        "cluster": "apiary",
        "cluster_directory": str(machine.cluster_directory),
        "image": str(machine.image),
        "cache_directory": "/cache",
        "entrypoint": machine.entrypoint,
        "lan_address": machine.lan_address,
        "multicast": machine.multicast,
    }
    result: dict[str, Any] = made.outcome(params | given, {})
    return result


def test_machine_is_shut_down_once(prepared: qemu.Machine, ended: list[bool]) -> None:
    assert outcome(prepared, "stopped", check=True)["actions"] == ["stop the machine"]
    assert ended == []
    assert outcome(prepared, "stopped")["changed"]
    assert not outcome(prepared, "stopped")["changed"]
    assert ended == [True]
    assert prepared.disk_path.exists()


def test_machine_is_removed_with_its_data_and_nothing_else(prepared: qemu.Machine, ended: list[bool]) -> None:
    assert outcome(prepared, "absent", check=True)["changed"]
    assert prepared.disk_path.exists()
    assert outcome(prepared, "absent")["changed"]
    assert not outcome(prepared, "absent")["changed"]
    assert ended == [False]
    assert not prepared.directory.exists()
    assert (prepared.cluster_directory / "pki" / "ca.pem").exists()


def test_machine_that_is_not_there_is_not_made_by_a_start(tmp_path: Path, ended: list[bool]) -> None:
    nothing = replace(MACHINE, cluster_directory=tmp_path)
    with pytest.raises(ApiaryError, match=r"no machine myvm1 .* to start: playbooks/site\.yml makes it"):
        outcome(nothing, "started", create=False)
    assert not nothing.directory.exists()


def test_machine_gets_the_list_of_revoked_certificates(prepared: qemu.Machine) -> None:
    with tarfile.open(prepared.directory / "config.tar") as archive:
        content = archive.extractfile("etc/apiary/tls/crl.pem").read()  # type: ignore[union-attr]
    assert content == (prepared.cluster_directory / "pki" / "crl.pem").read_bytes()


@pytest.mark.parametrize(("known", "told"), [("old", True), ("", True), (None, False)])
def test_running_machine_is_told_once_who_is_shut_out(
    prepared: qemu.Machine, ended: list[bool], monkeypatch: pytest.MonkeyPatch, known: str | None, told: bool
) -> None:
    current = (prepared.cluster_directory / "pki" / "crl.pem").read_text()
    scripts: list[str] = []

    def ssh(_machine: qemu.Machine, script: str) -> str:
        scripts.append(script)
        return current if known is None else known

    monkeypatch.setattr(qemu, "ssh", ssh)
    monkeypatch.setattr(qemu, "wait_for_api", lambda *_: None)
    assert outcome(prepared, "revoked")["changed"] == told
    assert len(scripts) == (2 if told else 1)
    if told:
        assert current in scripts[1]
        assert "killall haproxy" in scripts[1]  # so that open connections end
