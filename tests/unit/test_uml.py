# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Machines under User Mode Linux, as far as they can be told without starting a kernel."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils import mconsole, qemu, uml
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.qmp import Forward

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
    forwards=frozenset({Forward("tcp", 4000, 4000)}),
)


def test_machine_has_the_same_files_cards_and_memory_as_under_qemu() -> None:
    assert uml.kernel_command(MACHINE, (3, 5)) == [
        *("linux.uml", "mem=1024M", "uml_dir=.", "umid=uml"),
        *("initrd=/cache/image/initramfs", "rdinit=/init", "hostfs=/usr/lib/uml/modules"),
        *("con0=null,fd:1", "con=null", "ssl=null", "quiet"),
        "ubdar=/cache/image/root.ext2",
        "ubdb=/state/apiary/machines/myvm1/disk.img",
        "ubdcr=/state/apiary/machines/myvm1/config.tar",
        "vec0:transport=fd,fd=3,mac=52:54:01:00:63:65,mtu=1500",
        "vec1:transport=fd,fd=5,mac=52:54:00:a8:63:65,mtu=1500",
    ]


def test_clone_writes_what_it_changes_beside_its_templates_disk(tmp_path: Path) -> None:
    clone = replace(MACHINE, cluster_directory=tmp_path)
    clone.directory.mkdir(parents=True)
    clone.base_path.symlink_to("/cache/golden/disk")
    own = clone.directory
    assert f"ubdb={own}/disk.cow,{own}/disk.base" in uml.kernel_command(clone, (3, 5))


def test_only_a_template_is_told_to_forget_what_it_is() -> None:
    assert "apiary.template" in uml.kernel_command(MACHINE, (3, 5), template=True)
    assert "apiary.template" not in uml.kernel_command(MACHINE, (3, 5))


def test_switch_forwards_and_joins_what_a_machine_of_qemus_would() -> None:
    words = uml.switch_command(MACHINE, (4, 6))
    rules = ",".join(f"hostfwd=tcp:127.0.99.101:{rule}" for rule in ("2222-:22", "2376-:2376", "4000-:4000"))
    assert f"user,id=nat,ipv6=off,{rules}" in words
    assert "socket,id=lan,mcast=230.0.99.1:12399,localaddr=127.0.0.1" in words
    hubs = {word.partition("netdev=")[2]: word.split(",")[2] for word in words if word.startswith("hubport")}
    assert hubs == {"nat": "hubid=0", "nat-cable": "hubid=0", "lan": "hubid=1", "lan-cable": "hubid=1"}
    assert "dgram,id=nat-cable,local.type=fd,local.str=4" in words
    assert "dgram,id=lan-cable,local.type=fd,local.str=6" in words
    assert words[words.index("-qmp") + 1] == "unix:/state/apiary/machines/myvm1/monitor,server=on,wait=off"


# Living and dying together


def beating(path: Path) -> bool:
    """Tell whether something still writes to the file."""
    before = path.stat().st_size
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        if path.stat().st_size != before:
            return True
        time.sleep(0.02)
    return False


def command(path: Path) -> list[str]:
    """A program whose child writes to the file, and would go on without it."""
    return ["sh", "-c", f"(trap '' TERM HUP; while :; do echo >>{path}; sleep 0.05; done) & echo $$ >{path}.pid; wait"]


@pytest.fixture
def hearts(tmp_path: Path) -> list[Path]:
    return [tmp_path / "switch", tmp_path / "kernel"]


@pytest.mark.parametrize("victim", ["first", "switch", "kernel"])
def test_whichever_is_killed_nothing_goes_on(hearts: list[Path], victim: str) -> None:
    process = subprocess.Popen(uml.together(*map(command, hearts)), cwd=hearts[0].parent, start_new_session=True)
    try:
        assert qemu.wait_until(lambda: all(h.exists() and h.with_suffix(".pid").exists() for h in hearts), 20, 0.02)
        if victim == "first":
            os.kill(process.pid, signal.SIGKILL)
        else:
            sought = str(hearts[0 if victim == "switch" else 1])
            found = [
                int(path.parent.name)
                for path in Path("/proc").glob("[0-9]*/cmdline")
                if path.read_bytes().split(b"\0")[0] == b"sh" and sought.encode() in path.read_bytes()
            ]
            os.kill(min(found), signal.SIGKILL)  # the program itself; its child is younger
        process.wait(timeout=20)
        assert qemu.wait_until(lambda: not any(beating(heart) for heart in hearts), 20, 0.02)
    finally:
        process.kill()
        process.wait()


def test_memory_is_in_a_file_system_that_nobody_else_sees(tmp_path: Path) -> None:
    script = 'stat --file-system --format=%T "$TMPDIR"; cp /bin/true "$TMPDIR"; "$TMPDIR/true"; echo $?'
    command = uml.together(["sh", "-c", script])
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["tmpfs", "0"]
    assert list((tmp_path / "memory").iterdir()) == []


@pytest.mark.parametrize(("program", "found"), [("linux.uml", True), ("unshare", True), ("/usr/bin/cat", False)])
def test_machines_processes_are_found_by_their_files(tmp_path: Path, program: str, found: bool) -> None:
    line = f"exec -a {program} python3 -c 'import time; time.sleep(60)' {tmp_path}/machines/myvm1/disk.img"
    process = subprocess.Popen(["bash", "-c", line])
    try:
        named = Path(f"/proc/{process.pid}/cmdline")
        assert qemu.wait_until(lambda: named.read_bytes().startswith(program.encode()), 20, 0.02)
        assert qemu.processes(tmp_path) == [process.pid] * found
    finally:
        process.kill()
        process.wait()


# The console


def test_shutdown_is_asked_for_as_the_kernels_console_takes_it(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 100)  # longer than a socket's path may be
    directory.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as kernel:
        link = tmp_path / "m"
        kernel.bind(str(link))
        link.rename(directory / "mconsole")
        mconsole.send(directory / "mconsole", "cad")
        request, sender = kernel.recvfrom(4096)
    magic, version, length = struct.unpack_from("=IiI", request)
    assert (magic, version, request[12 : 12 + length], len(request)) == (0xCAFEBABE, 2, b"cad", 524)
    assert sender


# What keeps it from running


def test_it_has_one_processor() -> None:
    assert uml.size_problem(1) == ""
    assert uml.size_problem(2) == "qemu_machine_cpus is 2, and it has one"


def test_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uml, "find_tool", lambda name: None if name == "linux.uml" else name)
    assert uml.missing_programs() == "linux.uml is missing, which Debian has in the package user-mode-linux"
    with pytest.raises(ApiaryError, match=r"myvm1 cannot run under User Mode Linux: linux\.uml is missing"):
        uml.start(MACHINE)


def test_why_a_kernel_did_not_boot_is_said_in_a_line() -> None:
    console = "Core dump limits\nKernel panic - not syncing: Attempted to kill init!\n[<6069>] ? panic+0x0/0x376\n\n"
    assert "a kernel does not boot: Kernel panic - not syncing: Attempted to kill init!" in uml.boot_problem(console)
    assert "it said nothing" in uml.boot_problem("")
