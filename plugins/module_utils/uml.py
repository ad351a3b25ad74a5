# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The same machine under User Mode Linux: a kernel that is a process of the user's, where KVM does not work.

Its network is a QEMU that runs no machine: a switch with the forwards, the LAN and the monitor that a machine under
QEMU has, so that whatever asks for these does not see the difference. The two live and die together, in namespaces of
the machine's own: one of processes, as a kernel's other processes do not end with it, and once nobody traces them any
more, they would go on with the machine's programs as programs of the host; and one of mounts, where the machine's
memory is a file system, which must be one from which programs may run, and is gone with the machine.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.apiary.swarm.plugins.module_utils import xstate
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.files import write_private
from ansible_collections.apiary.swarm.plugins.module_utils.qemu import (
    KERNEL,
    QEMU,
    Machine,
    find_tool,
    forward_rules,
    record,
    wait_until,
)

#: programs and the Debian packages that bring them
_PROGRAMS = {KERNEL: "user-mode-linux", "unshare": "util-linux", "mount": "mount", "bash": "bash"}
MODULES = Path("/usr/lib/uml/modules")
#: as large as it likes, for the kernel asks for no more than the machine's memory
_MEMORY = "mkdir -p memory\nmount -t tmpfs -o size=100%,mode=700,nosuid,nodev memory memory\nexport TMPDIR=$PWD/memory"
_START_SECONDS = 30


def kernel_command(machine: Machine, cables: tuple[int, int], *, template: bool = False) -> list[str]:
    """Return the kernel's command line; *cables* are its ends of those to NAT and LAN."""
    disk = f"{machine.cow_path},{machine.base_path}" if machine.base_path.is_symlink() else str(machine.disk_path)
    nat, lan = cables
    return [
        *_kernel(machine.image, machine.memory_mib),
        *(f"ubdar={machine.image / 'root.ext2'}", f"ubdb={disk}", f"ubdcr={machine.directory / 'config.tar'}"),
        f"vec0:transport=fd,fd={nat},mac={machine.nat_mac()},mtu=1500",
        f"vec1:transport=fd,fd={lan},mac={machine.lan_mac()},mtu=1500",
        *(("apiary.template",) if template else ()),
    ]


def probe_command(image: Path) -> list[str]:
    """Return the command line of a kernel that says that it runs, and ends."""
    return [*_kernel(image, 128), "apiary.probe"]


def _kernel(image: Path, memory_mib: int) -> list[str]:
    return [
        # below the directory that it is started in: the path of the whole may be too long for a socket
        *(KERNEL, f"mem={memory_mib}M", "uml_dir=.", "umid=uml"),
        *(f"initrd={image / 'initramfs'}", "rdinit=/init", f"hostfs={MODULES}"),
        *("con0=null,fd:1", "con=null", "ssl=null", "quiet"),
    ]


def switch_command(machine: Machine, cables: tuple[int, int]) -> list[str]:
    """Return the command line of the QEMU that is the machine's network; *cables* are its ends of both."""
    nat, lan = cables
    return [
        *(QEMU, "-name", f"apiary-{machine.name}", "-machine", "none"),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-netdev", f"user,id=nat,ipv6=off,{forward_rules(machine)}"),
        *("-netdev", f"dgram,id=nat-cable,local.type=fd,local.str={nat}"),
        *("-netdev", f"socket,id=lan,mcast={machine.multicast},localaddr=127.0.0.1"),
        *("-netdev", f"dgram,id=lan-cable,local.type=fd,local.str={lan}"),
        *_joined(0, "nat", "nat-cable"),
        *_joined(1, "lan", "lan-cable"),
        *("-qmp", f"unix:{machine.monitor_path},server=on,wait=off"),
    ]


def _joined(hub: int, *networks: str) -> list[str]:
    ports = (f"hubport,id={network}-port,hubid={hub},netdev={network}" for network in networks)
    return [word for port in ports for word in ("-netdev", port)]


def together(*commands: Sequence[str]) -> list[str]:
    """Return a command that runs all of these until one of them ends, and then ends whatever they have started.

    Whoever kills it kills them, too. It is to be started in a directory of the machine's own, below which its memory
    is. A user who is not root makes its namespaces within a user namespace of his own.
    """
    # no core: a kernel that panics would leave all its memory in one
    script = "\n".join(
        ["set -e", "ulimit -c 0", _MEMORY, *(f"{shlex.join(command)} &" for command in commands), "wait -n"]
    )
    user = () if os.geteuid() == 0 else ("--user", "--map-current-user", "--keep-caps")
    return ["unshare", *user, "--mount", "--pid", "--fork", "--kill-child", "--", "bash", "-c", script]


def missing_programs() -> str:
    """Say what is missing on this host; empty if nothing."""
    for program, package in _PROGRAMS.items():
        if not find_tool(program):
            return f"{program} is missing, which Debian has in the package {package}"
    return "" if MODULES.is_dir() else f"{MODULES} is missing, the modules of {KERNEL}"


def size_problem(cpus: int) -> str:
    """Say why a machine with so many processors cannot run under User Mode Linux; empty if it can."""
    return f"qemu_machine_cpus is {cpus}, and it has one" if cpus > 1 else ""


def boot_problem(console: str) -> str:
    """Say in a line why a kernel did not boot, of which this is all it said."""
    lines = [line.strip() for line in console.splitlines() if line.strip()]
    panic = [line for line in lines if "Kernel panic" in line]
    said = (panic[:1] or lines or ["it said nothing"])[-1]
    if xstate.processor_has_amx() and not find_tool(xstate.COMPILER):
        said += "; on processors with AMX, kernels before 6.13 need a C compiler on the host: Debian's package gcc"
    if said.startswith(("unshare:", "mount:")):
        said += "; it needs namespaces of processes and mounts, for an ordinary user within a user namespace"
    return f"a kernel does not boot: {said}"


def run(machine: Machine, before: Sequence[str] = (), *, template: bool = False) -> subprocess.Popen[bytes]:
    """Start the machine by way of the command *before*; return its first process once its network is there."""
    shutil.rmtree(machine.directory / "uml", ignore_errors=True)  # of a kernel that was killed: it would seem to run
    machine.monitor_path.unlink(missing_ok=True)
    nat, lan = (socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    ends = [*nat, *lan]
    try:
        kernel = [
            *xstate.preloaded(machine.image.parent),
            *kernel_command(machine, (nat[0].fileno(), lan[0].fileno()), template=template),
        ]
        switch = switch_command(machine, (nat[1].fileno(), lan[1].fileno()))
        with machine.console_path.open("wb") as console:
            machine.console_path.chmod(0o600)
            process = subprocess.Popen(
                [*before, *together(switch, kernel)],
                cwd=machine.directory,
                pass_fds=[end.fileno() for end in ends],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
    finally:
        for end in ends:
            end.close()
    write_private(machine.directory / "pid", f"{process.pid}\n".encode())
    wait_until(lambda: machine.monitor_path.exists() or process.poll() is not None, _START_SECONDS, 0.02)
    if process.poll() is not None or not machine.monitor_path.exists():
        process.kill()
        raise ApiaryError(
            f"User Mode Linux did not start {machine.name}: {machine.console_path.read_text(errors='replace').strip()}"
        )
    return process


def start(machine: Machine) -> None:
    """Boot the machine, and leave it to itself."""
    if problem := missing_programs() or size_problem(machine.cpus):
        raise ApiaryError(f"{machine.name} cannot run under User Mode Linux: {problem} (qemu_machine_accelerator)")
    run(machine)
    record(machine, "uml")
