# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""docker-machine's drivers ``virtualbox`` and ``none``: the same steps, in the same order, with the same words."""

from __future__ import annotations

import fcntl
import io
import ipaddress
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from stand_in import iso
from stand_in.certificates import make_ssh_key
from stand_in.log import log
from stand_in.settings import HOME, fault
from stand_in.virtualbox import VBoxError, VirtualBox, write_disk

#: docker-machine's driver calls wait for each other within a process, and not between processes
SERIAL = threading.RLock()

NOT_RUNNING = "Host is not running"
NOT_THERE = "machine does not exist"
_SSH = [
    *("-F", "/dev/null", "-o", "ConnectionAttempts=3", "-o", "ConnectTimeout=10", "-o", "ControlMaster=no"),
    *("-o", "ControlPath=none", "-o", "LogLevel=quiet", "-o", "PasswordAuthentication=no"),
    *("-o", "ServerAliveInterval=60", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
]
_MAGIC = "boot2docker, please format-me"


class MachineError(Exception):
    """What docker-machine says before it ends with status 1."""


def wait(condition: Callable[[], bool], attempts: int = 60, seconds: float = 3) -> None:
    for _ in range(attempts):
        if condition():
            return
        time.sleep(seconds)
    raise MachineError(f"Maximum number of retries ({attempts}) exceeded")


class NoneDriver:
    """A machine that exists, whoever has made it."""

    name = "none"

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    @property
    def machine(self) -> str:
        return str(self.config["MachineName"])

    def pre_create_check(self) -> None:
        """Nothing to check."""

    def create(self) -> None:
        """Nothing to make."""

    def state(self) -> str:
        return "Running"

    def address(self) -> str:
        return str(self.config["IPAddress"])

    def url(self) -> str:
        return str(self.config["URL"])

    def start(self) -> None:
        raise MachineError("hosts without a driver cannot be started")

    def stop(self) -> None:
        raise MachineError("hosts without a driver cannot be stopped")

    def restart(self) -> None:
        raise MachineError("hosts without a driver cannot be restarted")

    def kill(self) -> None:
        raise MachineError("hosts without a driver cannot be killed")

    def remove(self) -> None:
        """Nothing to remove."""

    def ssh_arguments(self) -> list[str]:
        raise MachineError("hosts without a driver cannot be reached by SSH")

    def ssh(self, command: str) -> str:
        raise MachineError(f"hosts without a driver cannot be reached by SSH: {command}")


class VirtualBoxDriver(NoneDriver):
    """A VM of VirtualBox, through the VBoxManage that is in PATH."""

    name = "virtualbox"

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        found = shutil.which("VBoxManage")
        self.manager = None if fault("vboxmanage-missing") is not None else found
        self._own = VirtualBox() if found and Path(found).resolve() == HOME / "VBoxManage" else None

    @property
    def directory(self) -> Path:
        return Path(self.config["StorePath"]) / "machines" / self.machine

    def _say(self, text: str) -> None:
        log.info(text, self.machine)

    # VBoxManage

    def _manage(self, *arguments: str) -> str:
        if not self.manager:
            raise MachineError("VBoxManage not found. Make sure VirtualBox is installed and VBoxManage is in the path")
        for _ in range(5):
            status, output, errors = self._run(arguments)
            if "error: The object is not ready" not in errors:
                break
            time.sleep(0.1)
        if "error:" in errors:
            raise MachineError(f"{self.manager} {' '.join(arguments)} failed:\n{errors}")
        if status:
            raise MachineError(f"exit status {status}")
        return output

    def _run(self, arguments: tuple[str, ...]) -> tuple[int, str, str]:
        if self._own:  # our own stand-in: without a process for each of the many calls
            try:
                return 0, self._own.call(arguments), ""
            except VBoxError as error:
                return 1, "", f"{error}\n"
        done = subprocess.run(
            [str(self.manager), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def _show(self) -> str:
        try:
            return self._manage("showvminfo", self.machine, "--machinereadable")
        except MachineError as error:
            if "Could not find a registered machine named" in str(error):
                raise MachineError(NOT_THERE) from error
            raise

    def _adapters(self) -> dict[str, dict[str, str]]:
        """Return the host-only adapters by the names of their networks."""
        found: dict[str, dict[str, str]] = {}
        addresses: set[str] = set()
        record: dict[str, str] = {}
        for line in self._manage("list", "hostonlyifs").splitlines():
            if match := re.fullmatch(r"(.+):\s+(.*)", line):
                record[match[1]] = match[2]
                if match[1] != "VBoxNetworkName":
                    continue
                address = record.get("IPAddress", "")
                for what, value, seen in (("name", match[2], found), ("IP", address, addresses)):
                    if value and value in seen:
                        raise MachineError(
                            "VirtualBox is configured with multiple host-only adapters with the same "
                            f'{what} "{value}". Please remove one'
                        )
                addresses.add(address)
                found[match[2]] = record
                record = {}
        return found

    # What a machine is made by

    def pre_create_check(self) -> None:
        version = self._manage("--version").strip()
        numbers = re.match(r"(\d+)\.(\d+)", version)
        if not numbers or (int(numbers[1]), int(numbers[2])) <= (4, 2):
            raise MachineError(
                f'We support Virtualbox starting with version 5. Your VirtualBox install is "{version}". '
                "Please upgrade at https://www.virtualbox.org"
            )
        if not self.config["NoVTXCheck"] and fault("vtx-off") is not None:
            raise MachineError("This computer doesn't have VT-X/AMD-v enabled. Enabling it in the BIOS is mandatory")
        try:
            iso.update_cache(Path(self.config["StorePath"]), self.config["Boot2DockerURL"], self.machine)
        except iso.DownloadError as error:
            raise MachineError(str(error)) from error
        self._adapters()

    def create(self) -> None:
        try:
            iso.copy_to_machine(Path(self.config["StorePath"]), self.config["Boot2DockerURL"], self.machine)
        except iso.DownloadError as error:
            raise MachineError(str(error)) from error
        self._say("Creating VirtualBox VM...")
        self._say("Creating SSH key...")
        key = Path(self.config["SSHKeyPath"])
        make_ssh_key(key)
        disk = self.directory / "disk.vmdk"
        write_disk(disk, io.BytesIO(_userdata(key.with_suffix(".pub").read_bytes())))
        name = self.machine
        cpus = self.config["CPU"] if self.config["CPU"] >= 1 else os.cpu_count() or 1
        self._manage("createvm", "--basefolder", str(self.directory), "--name", name, "--register")
        self._manage(
            *(
                "modifyvm",
                name,
                "--firmware",
                "bios",
                "--ostype",
                "Linux26_64",
                "--boot1",
                "dvd",
                "--cpus",
                str(min(cpus, 32)),
                "--memory",
                str(self.config["Memory"]),
            ),
            *("--natdnshostresolver1", _on(self.config["HostDNSResolver"])),
            *("--natdnsproxy1", _on(self.config["DNSProxy"])),
        )
        self._manage(
            *("modifyvm", name, "--nic1", "nat", "--nictype1", self.config["NatNicType"], "--cableconnected1", "on")
        )
        self._manage("storagectl", name, "--name", "SATA", "--add", "sata", "--hostiocache", "on")
        media = {"0": ("dvddrive", self.directory / "boot2docker.iso"), "1": ("hdd", disk)}
        for port, (kind, medium) in media.items():
            place = ("--storagectl", "SATA", "--port", port, "--device", "0")
            self._manage("storageattach", name, *place, "--type", kind, "--medium", str(medium))
        self._say("Starting the VM...")
        self._start()

    # Its life

    def state(self) -> str:
        with SERIAL:
            return self._state()

    def _state(self) -> str:
        match = re.search(r'^VMState="(\w+)"', self._show(), re.MULTILINE)
        words = {
            "running": "Running",
            "paused": "Paused",
            "saved": "Saved",
            "poweroff": "Stopped",
            "aborted": "Stopped",
        }
        return words.get(match[1] if match else "", "")

    def address(self) -> str:
        with SERIAL:
            return self._address()

    def _address(self) -> str:
        if self._state() != "Running":
            raise MachineError(NOT_RUNNING)
        shown = self._show()
        number = re.search(r"^hostonlyadapter(\d+)", shown, re.MULTILINE)
        if not number:
            raise MachineError("Machine does not have a host-only adapter")
        mac = re.search(rf'^macaddress{number[1]}="(.*)"', shown, re.MULTILINE)
        if not mac:
            raise MachineError(f"Could not find MAC address for adapter {number[1]}")
        armed = False
        for line in map(str.strip, self.ssh("ip addr show").splitlines()):
            words = line.split(" ")
            if line.startswith("link") and words[1].replace(":", "") == mac[1].lower():
                armed = True
            elif armed and words[0] == "inet":
                return words[1].partition("/")[0]
        raise MachineError(f"Could not find matching IP for MAC address {mac[1].lower()}")

    def url(self) -> str:
        return f"tcp://{self.address()}:2376"

    def start(self) -> None:
        with SERIAL:
            self._start()

    def _start(self) -> None:
        state = self._state()
        adapter = None
        if state == "Stopped":
            self._say("Check network to re-create if needed...")
            try:
                adapter = self._set_up_host_only_network()
            except MachineError as error:
                raise MachineError(f"Error setting up host only network on machine start: {error}") from error
        if state in ("Stopped", "Saved"):
            port = _free_port(self.config["SSHPort"])
            with suppress(MachineError):  # there may be none
                self._manage("modifyvm", self.machine, "--natpf1", "delete", "ssh")
            self._manage("modifyvm", self.machine, "--natpf1", f"ssh,tcp,127.0.0.1,{port},,22")
            self.config["SSHPort"] = port
            try:
                self._manage("startvm", self.machine, "--type", self.config["UIType"])
            except MachineError as error:
                raise MachineError(f"Unable to start the VM: {error}") from error
        elif state == "Paused":
            self._manage("controlvm", self.machine, "resume", "--type", self.config["UIType"])
            self._say("Resuming VM ...")
        else:
            self._say("VM not in restartable state")
        self._say("Waiting for an IP...")
        self._wait_for_address()
        if adapter:
            self._adapters()

    def _wait_for_address(self) -> None:
        self.wait_for_ssh()
        wait(self._has_address, 5, 4)
        self.config["IPAddress"] = self._address()

    def _has_address(self) -> bool:
        try:
            return bool(self._address())
        except MachineError:
            return False

    def stop(self) -> None:
        with SERIAL:
            self._stop()

    def _stop(self) -> None:
        if self._state() == "Paused":
            self._manage("controlvm", self.machine, "resume")
            self._say("Resuming VM ...")
        self._manage("controlvm", self.machine, "acpipowerbutton")
        while self._state() == "Running":
            time.sleep(1)
        self.config["IPAddress"] = ""

    def restart(self) -> None:
        with SERIAL:
            for what, action in {"stopping": self._stop, "starting": self._start}.items():
                try:
                    action()
                except MachineError as error:
                    raise MachineError(f"Problem {what} the VM: {error}") from error
            self._wait_for_address()

    def kill(self) -> None:
        with SERIAL:
            self._manage("controlvm", self.machine, "poweroff")

    def remove(self) -> None:
        with SERIAL:
            try:
                state = self._state()
            except MachineError as error:
                if str(error) == NOT_THERE:
                    return
                raise
            if state not in ("Stopped", "Saved"):
                self._manage("controlvm", self.machine, "poweroff")
            self._manage("unregistervm", "--delete", self.machine)

    # Its network

    def _set_up_host_only_network(self) -> dict[str, str]:
        try:
            wanted = ipaddress.IPv4Interface(self.config["HostOnlyCIDR"])
            if "/" not in self.config["HostOnlyCIDR"]:
                raise ValueError
        except ValueError as error:
            raise MachineError(f"invalid CIDR address: {self.config['HostOnlyCIDR']}") from error
        if wanted.ip == wanted.network.network_address:
            raise MachineError("host-only cidr must be specified with a host address, not a network address")
        adapters = self._adapters()
        own = {_interface(adapter) for adapter in adapters.values()}
        for addresses in _host_interfaces():
            if not own & addresses and any(
                address.network.network_address == wanted.network.network_address for address in addresses
            ):
                raise MachineError("host-only cidr conflicts with the network address of a host interface")
        adapter = next((found for found in adapters.values() if _interface(found) == wanted), None)
        if not adapter:
            adapter = self._new_adapter(adapters)
            self._manage(
                *("hostonlyif", "ipconfig", adapter["Name"]),
                *("--ip", str(wanted.ip), "--netmask", str(wanted.netmask)),
            )
        self._serve_addresses(adapter["Name"], wanted)
        self._manage(
            *("modifyvm", self.machine, "--nic2", "hostonly", "--nictype2", self.config["HostOnlyNicType"]),
            *("--nicpromisc2", self.config["HostOnlyPromiscMode"], "--hostonlyadapter2", adapter["Name"]),
            *("--cableconnected2", "on"),
        )
        return adapter

    def _new_adapter(self, old: dict[str, dict[str, str]]) -> dict[str, str]:
        self._manage("hostonlyif", "create")
        # A second is what the real one gives VirtualBox; and it is when others, started at the same time, step in.
        for _ in range(10):
            time.sleep(1)
            try:
                new = [adapter for name, adapter in self._adapters().items() if name not in old]
            except MachineError:
                break
            if new:
                adapter = random.choice(new)  # noqa: S311 - as the real one does
                self._say(f'Found a new host-only adapter: "{adapter["Name"]}"')
                return adapter
        raise MachineError(
            "The host-only adapter we just created is not visible. This is a well known VirtualBox bug. You might want "
            "to uninstall it and reinstall at least version 5.0.12 that is is supposed to fix this issue"
        )

    def _serve_addresses(self, adapter: str, wanted: ipaddress.IPv4Interface) -> None:
        prefix = "HostInterfaceNetworking-"
        servers = re.findall(r"^NetworkName:\s+(.*)$", self._manage("list", "dhcpservers"), re.MULTILINE)
        networks = self._adapters() if servers else {}
        for server in servers:
            if server.startswith(prefix) and server not in networks:
                self._manage("dhcpserver", "remove", "--netname", server)
        first = wanted.network.network_address
        number = random.choice([n for n in range(1, 25) if first + n != wanted.ip])  # noqa: S311 - as the real one does
        low, high = first + 100, first + 254
        if wanted.network.prefixlen > 24:
            low, high = first + number + 1, wanted.network.broadcast_address - 1
        self._manage(
            *("dhcpserver", "modify" if prefix + adapter in servers else "add", "--netname", prefix + adapter),
            *("--ip", str(first + number), "--netmask", str(wanted.netmask)),
            *("--lowerip", str(low), "--upperip", str(high)),
            "--disable" if self.config["HostOnlyNoDHCP"] else "--enable",
        )

    # SSH

    def ssh_arguments(self) -> list[str]:
        key = Path(self.config["SSHKeyPath"])
        if not key.exists():
            raise MachineError(f"stat {key}: no such file or directory")
        mode = key.stat().st_mode & 0o777
        if not mode & 0o400:
            raise MachineError(f"'{key}' is not readable")
        if mode & 0o077:
            raise MachineError(f"permissions {mode:#05o} for '{key}' are too open".replace("0o", "0"))
        return [
            *("ssh", *_SSH, f"{self.config['SSHUser']}@127.0.0.1", "-o", "IdentitiesOnly=yes"),
            *("-i", str(key), "-p", str(self.config["SSHPort"])),
        ]

    def ssh(self, command: str) -> str:
        done = subprocess.run(
            [*self.ssh_arguments(), command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise MachineError(
                f"ssh command error:\ncommand : {command}\nerr     : exit status {done.returncode}\n"
                f"output  : {done.stdout}"
            )
        return done.stdout

    def wait_for_ssh(self) -> None:
        """Wait for SSH, asking more often than the real one, whose machines take longer."""

        def answers() -> bool:
            try:
                self.ssh("exit 0")
            except MachineError:
                return False
            return True

        try:
            wait(answers, 360, 0.5)
        except MachineError as error:
            raise MachineError(
                "Too many retries waiting for SSH to be available.  Last error: Maximum number of retries (60) exceeded"
            ) from error


def _on(value: bool) -> str:
    return "on" if value else "off"


def _userdata(public_key: bytes) -> bytes:
    """Return the archive that tells a guest that its disk is new, and who may log in."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        files = {_MAGIC: _MAGIC.encode(), ".ssh/authorized_keys": public_key, ".ssh/authorized_keys2": public_key}
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def _interface(adapter: dict[str, str]) -> ipaddress.IPv4Interface | None:
    try:
        return ipaddress.IPv4Interface(f"{adapter['IPAddress']}/{adapter['NetworkMask']}")
    except (KeyError, ValueError):
        return None


def _host_interfaces() -> list[set[ipaddress.IPv4Interface]]:
    """Return the addresses of this computer's interfaces that are up, but for loopback."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:

        def ask(request: int, name: str) -> bytes:
            return fcntl.ioctl(asked, request, struct.pack("256s", name.encode()[:15]))

        for _, name in socket.if_nameindex():
            try:
                flags = struct.unpack("16xH", ask(0x8913, name)[:18])[0]  # SIOCGIFFLAGS
                address, mask = (socket.inet_ntoa(ask(request, name)[20:24]) for request in (0x8915, 0x891B))
            except OSError:  # it has no address
                continue
            if flags & 1 and not flags & 8:  # up, not loopback
                found.append({ipaddress.IPv4Interface(f"{address}/{mask}")})
    return found


def _free_port(wanted: int) -> int:
    """Return *wanted*, or any when that is 0; a wanted one that is taken is an error, and no other is chosen."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", wanted))
            tried.listen()
        except OSError as error:
            raise MachineError(f"listen tcp4 127.0.0.1:{wanted}: bind: address already in use") from error
        return int(tried.getsockname()[1])
