# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One virtual machine under QEMU: its files, its command line, its life. Needs neither root nor a bridge."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils import mconsole
from ansible_collections.apiary.swarm.plugins.module_utils.cluster_files import API_PORT, endpoint
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import CertificateRefused, connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.files import private_directory, write_private
from ansible_collections.apiary.swarm.plugins.module_utils.names import check_machine
from ansible_collections.apiary.swarm.plugins.module_utils.pki import (
    ensure_certificate,
    ensure_revocations,
    ensure_ssh_key,
)
from ansible_collections.apiary.swarm.plugins.module_utils.qmp import Forward, Monitor, is_running

#: SSH comes in on this port of the entrypoint: 22 would need root on the host
SSH_PORT = 2222
#: the address of every machine on its own NAT network (QEMU's user networking); only the host can reach it
NAT_ADDRESS = "10.0.2.15"
#: the size of every machine's identity: a clone's kernel goes on with the one that it knows from its template
CONFIG_BYTES = 1 << 15
#: a CPU for emulation: what glibc, Go and OpenSSL use well, without AVX, which emulates slowly
EMULATED_CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq"
QEMU = "qemu-system-x86_64"
#: the kernel of User Mode Linux
KERNEL = "linux.uml"
#: the programs that a machine's processes run
_PROGRAMS = (QEMU, KERNEL, "unshare")
_REVOKED = "/etc/apiary/tls/crl.pem"
#: a machine from an image of before there were lists of revoked certificates would not read one
_END_PROXY = "grep -q crl-file /etc/apiary/haproxy.cfg\nbusybox killall haproxy"
_SYSTEM_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def find_tool(name: str) -> str | None:
    """Return the path of a program; Debian's /usr/sbin is not on an ordinary user's PATH."""
    return shutil.which(name, path=_SYSTEM_PATH)


@dataclass(frozen=True)
class Machine:
    """A machine as it should be. Sizes are in MiB and GiB; addresses are IPv4 literals."""

    name: str
    cluster_directory: Path
    image: Path
    memory_mib: int
    cpus: int
    disk_gib: int
    entrypoint: str
    lan_address: str
    lan_prefix: int
    multicast: str
    disk_cache: str = "writeback"
    forwards: frozenset[Forward] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        check_machine(self.name)

    @property
    def directory(self) -> Path:
        return self.cluster_directory / "machines" / self.name

    @property
    def monitor_path(self) -> Path:
        return self.directory / "monitor"

    @property
    def disk_path(self) -> Path:
        """Where the disk of a machine is that was made by a cold boot."""
        return self.directory / "disk.img"

    @property
    def overlay_path(self) -> Path:
        """Where a clone keeps what it has changed on its template's disk, to which base_path leads."""
        return self.directory / "disk.qcow2"

    @property
    def cow_path(self) -> Path:
        """What overlay_path is, in the format of User Mode Linux."""
        return self.directory / "disk.cow"

    @property
    def base_path(self) -> Path:
        return self.directory / "disk.base"

    @property
    def agent_path(self) -> Path:
        """The machine's second serial line, on which a clone is told that it begins."""
        return self.directory / "agent"

    @property
    def console_path(self) -> Path:
        return self.directory / "console.log"

    def all_forwards(self) -> set[Forward]:
        """Return the ports asked for, and those of the API and of SSH."""
        return {*self.forwards, Forward("tcp", API_PORT, API_PORT), Forward("tcp", SSH_PORT, 22)}

    @property
    def newborn_path(self) -> Path:
        """Marks a clone that has no identity yet: if its making was interrupted, nothing of it is worth keeping."""
        return self.directory / "newborn"

    def exists(self) -> bool:
        """Tell whether the machine has a disk, and with it a life to go on with."""
        disks = (self.disk_path, self.overlay_path, self.cow_path)
        return any(disk.exists() for disk in disks) and not self.newborn_path.exists()

    def lan_mac(self) -> str:
        """Return the card's address on the LAN: QEMU's prefix and the last three bytes of the IP address."""
        return "52:54:00:" + _hex_bytes(self.lan_address)

    def nat_mac(self) -> str:
        """Return the address of the other card, from the address on which the host reaches the machine."""
        return "52:54:01:" + _hex_bytes(self.entrypoint)


def _hex_bytes(address: str) -> str:
    return ":".join(f"{int(byte):02x}" for byte in address.split(".")[1:])


@dataclass(frozen=True)
class Ram:
    """A file that is the memory of a template, which fills it, or of clones, which keep their changes to themselves."""

    path: Path
    shared: bool


def command_line(
    machine: Machine, accelerator: str, cpu_model: str, ram: Ram | None = None, *, template: bool = False
) -> list[str]:
    """Return QEMU's command line for *machine*; *accelerator* is ``kvm`` or ``tcg``."""
    # apparmor=0: without the apparmor package in the guest no container would start with it on
    kernel = "console=ttyS0 quiet panic=-1 rdinit=/init apparmor=0 mitigations=off no_timer_check"
    return [
        QEMU,
        *("-name", f"apiary-{machine.name}", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "pc,memory-backend=ram" if ram else "pc"),
        *(_ram_options(machine, ram) if ram else ()),
        *("-accel", "kvm" if accelerator == "kvm" else "tcg,thread=multi,tb-size=512"),
        *("-cpu", cpu_model or ("host" if accelerator == "kvm" else EMULATED_CPU)),
        *("-smp", str(machine.cpus), "-m", str(machine.memory_mib)),
        *("-kernel", str(machine.image / "vmlinuz"), "-initrd", str(machine.image / "initramfs")),
        *("-append", f"{kernel} apiary.template" if template else kernel),
        *("-drive", f"file={machine.image / 'root.ext2'},format=raw,if=virtio,readonly=on"),
        *("-drive", f"{_disk_options(machine)},if=virtio,cache={machine.disk_cache},discard=unmap"),
        *("-fw_cfg", f"name=opt/apiary/config,file={machine.directory / 'config.tar'}"),
        *("-device", "virtio-rng-pci"),
        *(
            "-netdev",
            f"user,id=nat,ipv6=off,{forward_rules(machine)}",
            "-device",
            f"virtio-net-pci,netdev=nat,mac={machine.nat_mac()},romfile=",
        ),
        *("-netdev", f"socket,id=lan,mcast={machine.multicast},localaddr=127.0.0.1"),
        *("-device", f"virtio-net-pci,netdev=lan,mac={machine.lan_mac()},romfile="),
        *("-serial", f"file:{machine.console_path}", "-serial", f"unix:{machine.agent_path},server=on,wait=off"),
        *("-qmp", f"unix:{machine.monitor_path},server=on,wait=off"),
        *("-pidfile", str(machine.directory / "pid")),
    ]


def forward_rules(machine: Machine) -> str:
    """Return what the machine's NAT forwards, as QEMU's user networking takes it."""
    return ",".join(f"hostfwd={rule}" for rule in sorted(f.rule(machine.entrypoint) for f in machine.all_forwards()))


def _ram_options(machine: Machine, ram: Ram) -> tuple[str, str]:
    share = "on" if ram.shared else "off"
    return "-object", f"memory-backend-file,id=ram,size={machine.memory_mib}M,mem-path={ram.path},share={share}"


def _disk_options(machine: Machine) -> str:
    if not machine.overlay_path.exists():
        return f"file={machine.disk_path},format=raw"
    # The base is named here, not in the overlay: the cache may be moved.
    return f"file={machine.overlay_path},format=qcow2,backing.driver=raw,backing.file.filename={machine.base_path}"


def set_forwards(machine: Machine, *, check_mode: bool) -> list[str]:
    """Forward the machine's ports while it runs; return what was (or, in check mode, would be) done.

    What is forwarded besides stays until the machine stops: it may be what another stack publishes.
    """
    with Monitor(machine.monitor_path) as monitor:
        missing = sorted(machine.all_forwards() - monitor.forwards())
        for forward in () if check_mode else missing:
            if refusal := monitor.human(f"hostfwd_add nat {forward.rule(machine.entrypoint)}"):
                raise ApiaryError(
                    f"cannot forward {machine.entrypoint}:{forward.host_port}/{forward.protocol} to {machine.name}: "
                    f"{refusal}. Is the port in use on this host ('ss -ltnp'), or below 1024?"
                )
    return [f"forward port {forward.host_port}" for forward in missing]


def _make_disk(machine: Machine) -> None:
    making = machine.directory / "disk.img.making"
    making.unlink(missing_ok=True)
    with making.open("wb") as file:
        file.truncate(machine.disk_gib << 30)
    making.chmod(0o600)
    format_disk = [find_tool("mke2fs") or "mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1", str(making)]
    result = subprocess.run(format_disk, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ApiaryError(f"cannot format the disk of {machine.name}, {making}: {result.stderr.strip()}")
    making.rename(machine.disk_path)


def _config_files(machine: Machine) -> dict[str, bytes]:
    """Return the identity that the machine is given: paths in the guest and their contents."""
    pki, own = machine.cluster_directory / "pki", machine.directory
    ensure_certificate(pki, own / "cert.pem", own / "key.pem", machine.name, [machine.entrypoint, machine.lan_address])
    host_key = ensure_ssh_key(own / "ssh_host_ed25519_key", machine.name)
    authorized = ensure_ssh_key(machine.cluster_directory / "ssh" / "id_ed25519", "apiary")
    machine_id = own / "machine-id"
    if not machine_id.exists():
        write_private(machine_id, f"{uuid.uuid4().hex}\n".encode())
    known = {
        "NAME": machine.name,
        "NAT_MAC": machine.nat_mac(),
        "LAN": f"{machine.lan_address}/{machine.lan_prefix}",
        "LAN_MAC": machine.lan_mac(),
    }
    return {
        "etc/apiary/machine": "".join(f"APIARY_{key}={value}\n" for key, value in known.items()).encode(),
        "etc/apiary/tls/ca.pem": (pki / "ca.pem").read_bytes(),
        "etc/apiary/tls/crl.pem": ensure_revocations(pki),
        "etc/apiary/tls/server.pem": (own / "cert.pem").read_bytes() + (own / "key.pem").read_bytes(),
        "etc/machine-id": machine_id.read_bytes(),
        "etc/hostname": f"{machine.name}\n".encode(),
        "etc/hosts": f"127.0.0.1 localhost\n{machine.lan_address} {machine.name}\n".encode(),
        "etc/ssh/ssh_host_ed25519_key": (own / "ssh_host_ed25519_key").read_bytes(),
        "etc/ssh/ssh_host_ed25519_key.pub": f"{host_key}\n".encode(),
        "root/.ssh/authorized_keys": f"{authorized}\n".encode(),
    }


def _config_tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = (
                len(content),
                0o644 if name.endswith((".pub", "hosts", "hostname", "machine-id")) else 0o600,
            )
            archive.addfile(member, io.BytesIO(content))
    content = buffer.getvalue()
    if len(content) > CONFIG_BYTES:
        raise ApiaryError(
            f"the identity of a machine takes {len(content)} bytes, of {CONFIG_BYTES} (qemu.CONFIG_BYTES)"
        )
    return content.ljust(CONFIG_BYTES, b"\0")


def _write_ssh_config(machine: Machine) -> None:
    """Let a person say ``ssh -F <cluster directory>/ssh/config NAME``, with the host key checked."""
    own = machine.directory
    host_key = (own / "ssh_host_ed25519_key.pub").read_text().strip()
    write_private(own / "known_hosts", f"[{machine.entrypoint}]:{SSH_PORT} {host_key}\n".encode())
    config = f"""Host {machine.name}
  HostName {machine.entrypoint}
  Port {SSH_PORT}
  User root
  IdentityFile "{machine.cluster_directory / "ssh" / "id_ed25519"}"
  IdentitiesOnly yes
  UserKnownHostsFile "{own / "known_hosts"}"
  StrictHostKeyChecking yes
"""
    write_private(own / "ssh_config", config.encode())
    include = f'Include "{machine.cluster_directory}/machines/*/ssh_config"\n'
    write_private(machine.cluster_directory / "ssh" / "config", include.encode())


def prepare(machine: Machine) -> None:
    """Make what the machine needs on the host and does not have yet: its disk and its identity."""
    private_directory(machine.directory)
    if machine.base_path.is_symlink():
        if not machine.base_path.exists():
            raise ApiaryError(
                f"the disk of {machine.name} builds on {machine.base_path.readlink()}, which is gone from the cache "
                f"(qemu_machine_cache_dir). Put it back, or remove {machine.directory}: the next run makes the machine "
                "anew, and it joins again."
            )
    elif not machine.disk_path.exists():
        _make_disk(machine)
    write_private(machine.directory / "config.tar", _config_tar(_config_files(machine)))
    _write_ssh_config(machine)


def console_tail(machine: Machine, lines: int = 8) -> str:
    """Return the last lines of the machine's console, for an error message."""
    try:
        text = machine.console_path.read_text(errors="replace")
    except FileNotFoundError:
        return "(its console is empty)"
    return "\n".join(text.strip().splitlines()[-lines:]) or "(its console is empty)"


def start(machine: Machine, accelerator: str, cpu_model: str) -> None:
    """Boot the machine."""
    launch(machine, command_line(machine, accelerator, cpu_model))
    record(machine, accelerator)


def launch(machine: Machine, command: list[str]) -> None:
    """Start QEMU for *machine*, and leave it to itself."""
    machine.monitor_path.unlink(missing_ok=True)
    result = subprocess.run([*command, "-daemonize"], capture_output=True, text=True, check=False, timeout=60)
    if result.returncode:
        raise ApiaryError(
            f"QEMU did not start {machine.name}: {result.stderr.strip() or f'exit status {result.returncode}'}"
        )


def record(machine: Machine, accelerator: str) -> None:
    """Keep what the machine was started with in ``machine.json``."""
    known = {**settings(machine), "accelerator": accelerator, "image": str(machine.image)}
    write_private(machine.directory / "machine.json", json.dumps(known, indent=2).encode())


def settings(machine: Machine) -> dict[str, Any]:
    """Return the settings that a running machine cannot change."""
    return {
        "memory_mib": machine.memory_mib,
        "cpus": machine.cpus,
        "disk_gib": machine.disk_gib,
        "entrypoint": machine.entrypoint,
        "lan_address": f"{machine.lan_address}/{machine.lan_prefix}",
        "multicast": machine.multicast,
    }


def pending_changes(machine: Machine) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which a machine differs from how it was last started: name → (now, wanted)."""
    try:
        started = json.loads((machine.directory / "machine.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return {
        key: (started[key], wanted)
        for key, wanted in settings(machine).items()
        if key in started and started[key] != wanted
    }


def wait_for_api(machine: Machine, timeout_seconds: float, interval_seconds: float = 0.3) -> None:
    """Wait until the engine answers this controller; CertificateRefused where the two do not trust each other."""
    reached = endpoint(machine.cluster_directory, machine.entrypoint)
    last_error = "nothing"

    def answers() -> bool:
        nonlocal last_error
        if not is_running(machine.monitor_path):
            raise ApiaryError(
                f"{machine.name} stopped while it was starting. The end of {machine.console_path}:\n"
                f"{console_tail(machine)}\n"
                f"If its disk is damaged, remove {machine.directory}: "
                "the next run makes the machine anew, and it joins again."
            )
        try:
            with connect(reached, timeout_seconds=10):
                pass
        except CertificateRefused as error:
            raise CertificateRefused(f"{machine.name} runs, but {error}") from error
        except ApiaryError as error:
            last_error = str(error)
            return False
        return True

    if wait_until(answers, timeout_seconds, interval_seconds):
        return
    raise ApiaryError(
        f"{machine.name} runs, but its Docker API at {reached['docker_host']} did not answer within "
        f"{timeout_seconds} s (boot_timeout_seconds); last: {last_error}. The end of "
        f"{machine.console_path}:\n{console_tail(machine)}"
    )


def ssh(machine: Machine, script: str, timeout_seconds: float = 60) -> str:
    """Run a shell script in the machine as root, and return what it prints."""
    command = ["ssh", "-F", str(machine.cluster_directory / "ssh" / "config"), "-o", "BatchMode=yes"]
    try:
        result = subprocess.run(
            [*command, "-o", "ConnectTimeout=30", machine.name, "sh -eu"],
            input=script,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ApiaryError(f"cannot log in to {machine.name} with ssh: {error}") from error
    if result.returncode:
        told = result.stderr.strip() or f"exit status {result.returncode}"
        raise ApiaryError(f"what was asked of {machine.name} over ssh failed: {told}")
    return result.stdout


def knows_revocations(machine: Machine) -> bool:
    """Say whether the running machine has the list of revoked certificates as it is now."""
    return ssh(machine, f"cat {_REVOKED} 2>/dev/null || true") == _revocations(machine)


def tell_revocations(machine: Machine) -> None:
    """Give the running machine the list of revoked certificates, and end all connections, also those that are open."""
    # init starts the proxy again, which reads the list only then
    ssh(machine, f"cat >{_REVOKED}.new <<'END'\n{_revocations(machine)}END\nmv {_REVOKED}.new {_REVOKED}\n{_END_PROXY}")


def _revocations(machine: Machine) -> str:
    return ensure_revocations(machine.cluster_directory / "pki").decode()


def stop(directory: Path, *, graceful: bool, timeout_seconds: float = 30) -> bool:
    """End the machine whose files are in *directory*; gracefully as Ctrl-Alt-Del does it, or at once.

    One that does not end in time is killed; return whether it was not.
    """
    monitor_path, console_path = directory / "monitor", directory / mconsole.SOCKET
    try:
        with Monitor(monitor_path) as monitor:
            if graceful and console_path.exists():
                mconsole.send(console_path, "cad")
            elif graceful:
                keys = [{"type": "qcode", "data": key} for key in ("ctrl", "alt", "delete")]
                monitor.execute("send-key", keys=keys)
            else:
                monitor.execute("quit")
    except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
        pass
    if wait_until(lambda: not processes(directory), timeout_seconds, 0.1):
        return True
    for process in processes(directory):
        with suppress(ProcessLookupError):  # of a machine under User Mode Linux, all end with the first
            os.kill(process, signal.SIGKILL)
    wait_until(lambda: not processes(directory), timeout_seconds, 0.1)
    return False


def wait_until(condition: Callable[[], bool], timeout_seconds: float, interval_seconds: float) -> bool:
    """Ask *condition* until it holds or the time is up; return whether it held."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_seconds)
    return True


def processes(directory: Path) -> list[int]:
    """Return the process IDs of all machines, known or not, whose files are below *directory*.

    Of one under User Mode Linux these are the first, which ends last, the kernel and the switch.
    """
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if Path(os.fsdecode(words[0])).name in _PROGRAMS and any(f"{directory}/".encode() in word for word in words):
            found.append(int(command.parent.name))
    return found
