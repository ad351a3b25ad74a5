# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""VBoxManage as far as docker-machine calls it, with VMs that are containers; settings says what can fail."""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import json
import random
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from stand_in.engine import EngineError, container_state
from stand_in.settings import fault, fault_of, networks_conf, state_directory

VERSION = "7.0.20r163906"
#: what is allowed unless networks.conf says otherwise
_ALLOWED = "192.168.56.0/21"
_DHCP_PREFIX = "HostInterfaceNetworking-"
_USERDATA_BYTES = 4096
_DENIED = """\
VBoxManage: error: Code E_ACCESSDENIED (0x80070005) - Access denied (extended info not available)
VBoxManage: error: Context: "EnableStaticIPConfig(Bstr(pszIp).raw(), Bstr(pszNetmask).raw())" at line 242 of file \
VBoxManageHostonly.cpp"""
_NO_VTX = """\
VBoxManage: error: VT-x is not available (VERR_VMX_NO_VMX)
VBoxManage: error: Details: code NS_ERROR_FAILURE (0x80004005), component ConsoleWrap, interface IConsole"""

State = dict[str, Any]


class VBoxError(Exception):
    """What VBoxManage says on its standard error before it ends with status 1."""


class VirtualBox:
    """VirtualBox of one computer."""

    def __init__(self) -> None:
        self.directory = state_directory()
        self.prefix = "stand-in-" + hashlib.sha256(str(self.directory).encode()).hexdigest()[:8]

    @cached_property
    def hypervisor(self) -> Any:
        from stand_in.guests import Hypervisor  # the Docker SDK takes its time, and most calls do without

        return Hypervisor(self.prefix)

    def call(self, arguments: Sequence[str], stdin: IO[bytes] | None = None) -> str:
        """Do what VBoxManage does when called with *arguments*, and return what it prints."""
        if "--version" in arguments:
            return (fault("version") or VERSION) + "\n"
        for words, action in self._actions.items():
            if tuple(arguments[: len(words)]) == words:
                return action(list(arguments[len(words) :]), stdin) or ""
        raise VBoxError(f"VBoxManage: error: the stand-in does not know this call: {' '.join(arguments)}")

    @property
    def _actions(self) -> dict[tuple[str, ...], Callable[[list[str], IO[bytes] | None], str | None]]:
        return {
            ("list", "hostonlyifs"): lambda _a, _i: self._list_adapters(),
            ("list", "dhcpservers"): lambda _a, _i: self._list_dhcp_servers(),
            ("list", "vms"): lambda _a, _i: self._list_machines(lambda _state: True),
            ("list", "runningvms"): lambda _a, _i: self._list_machines(lambda state: state in ("running", "paused")),
            ("hostonlyif", "create"): lambda _a, _i: self._create_adapter(),
            ("hostonlyif", "ipconfig"): lambda a, _i: self._configure_adapter(a[0], _options(a[1:])),
            ("hostonlyif", "remove"): lambda a, _i: self._remove_adapter(a[0]),
            ("dhcpserver", "add"): lambda a, _i: self._set_dhcp_server(a),
            ("dhcpserver", "modify"): lambda a, _i: self._set_dhcp_server(a),
            ("dhcpserver", "remove"): lambda a, _i: self._remove_dhcp_server(_options(a)["netname"]),
            ("convertfromraw", "stdin"): lambda a, i: write_disk(Path(a[0]), i or sys.stdin.buffer),
            ("createvm",): lambda a, _i: self._create(_options(a)),
            ("modifyvm",): lambda a, _i: self._modify(a[0], a[1:]),
            ("storagectl",): lambda a, _i: self._noted(a[0]),
            ("storageattach",): lambda a, _i: self._attach(a[0], _options(a[1:])),
            ("guestproperty", "set"): lambda a, _i: self._noted(a[0]),
            ("sharedfolder", "add"): lambda a, _i: self._noted(a[0]),
            ("setextradata",): lambda a, _i: self._noted(a[0]),
            ("showvminfo",): lambda a, _i: self._show(a[0]),
            ("startvm",): lambda a, _i: self._start(a[0]),
            ("controlvm",): lambda a, _i: self._control(a[0], a[1]),
            ("unregistervm",): lambda a, _i: self._unregister(next(word for word in a if word != "--delete"), a),
            ("stand-in-image",): lambda _a, _i: self._image(),
            ("stand-in-clear",): lambda _a, _i: self._clear(),
        }

    # State, in one file. The lock is held for one change: callers are not kept from each other, as by the real one.

    @contextmanager
    def _state(self) -> Iterator[State]:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.directory / "virtualbox.json"
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state: State = {"adapters": [], "dhcp": {}, "machines": {}, "offer": 0}
            if path.exists():
                state.update(json.loads(path.read_text()))
            before = json.dumps(state)
            yield state
            if json.dumps(state) != before:
                new = path.with_suffix(".new")
                new.write_text(json.dumps(state, indent=1))
                new.replace(path)

    # Adapters and their DHCP servers

    def _list_adapters(self) -> str:
        with self._state() as state:
            adapters = state["adapters"]
        invisible = fault("adapter-invisible") is not None
        return "".join(
            f"Name:            {adapter['name']}\n"
            f"GUID:            {uuid.uuid5(uuid.NAMESPACE_DNS, adapter['name'])}\n"
            "DHCP:            Disabled\n"
            f"IPAddress:       {adapter['ip']}\n"
            f"NetworkMask:     {adapter['mask']}\n"
            "IPV6Address:     \n"
            "IPV6NetworkMaskPrefixLength: 0\n"
            f"HardwareAddress: {adapter['mac']}\n"
            "MediumType:      Ethernet\n"
            "Wireless:        No\n"
            "Status:          Up\n"
            f"VBoxNetworkName: {_DHCP_PREFIX}{adapter['name']}\n\n"
            for adapter in adapters
            if not (invisible and not adapter["ip"])
        )

    def _create_adapter(self) -> str:
        with self._state() as state:
            taken = {adapter["name"] for adapter in state["adapters"]}
            number = next(number for number in range(len(taken) + 1) if f"vboxnet{number}" not in taken)
            mac = f"0a:00:27:00:00:{number:02x}"
            state["adapters"].append({"name": f"vboxnet{number}", "ip": "", "mask": "", "mac": mac})
        return f"0%...10%...20%...100%\nInterface 'vboxnet{number}' was successfully created\n"

    def _configure_adapter(self, name: str, options: dict[str, str]) -> None:
        if "ip" not in options:
            return
        if fault("access-denied") is not None or not _allowed(options["ip"]):
            raise VBoxError(_DENIED)
        with self._state() as state:
            _adapter(state, name).update(ip=options["ip"], mask=options.get("netmask", "255.255.255.0"))

    def _remove_adapter(self, name: str) -> None:
        with self._state() as state:
            state["adapters"].remove(_adapter(state, name))

    def _list_dhcp_servers(self) -> str:
        with self._state() as state:
            servers = state["dhcp"]
        # In VirtualBox 7's own spelling, which docker-machine does not understand.
        return "".join(
            f"NetworkName:    {name}\nDhcpd IP:       {server['ip']}\nLowerIPAddress: {server['lowerip']}\n"
            f"UpperIPAddress: {server['upperip']}\nNetworkMask:    {server['netmask']}\n"
            f"Enabled:        {'Yes' if server['enabled'] else 'No'}\n\n"
            for name, server in servers.items()
        )

    def _set_dhcp_server(self, arguments: list[str]) -> None:
        options = _options([word for word in arguments if word not in ("--enable", "--disable")])
        with self._state() as state:
            state["dhcp"][options.pop("netname")] = {**options, "enabled": "--enable" in arguments}

    def _remove_dhcp_server(self, name: str) -> None:
        with self._state() as state:
            state["dhcp"].pop(name, None)

    # VMs

    def _list_machines(self, wanted: Callable[[str], bool]) -> str:
        with self._state() as state:
            machines = dict(state["machines"])
        listed = [name for name, machine in machines.items() if wanted(self._state_of(name, machine))]
        return "".join(f'"{name}" {{{machines[name]["uuid"]}}}\n' for name in listed)

    def _create(self, options: dict[str, str]) -> str:
        name = options["name"]
        home = Path(options["basefolder"]) / name
        with self._state() as state:
            if name in state["machines"]:
                raise VBoxError(
                    f"VBoxManage: error: Machine settings file '{home}/{name}.vbox' already exists\n"
                    "VBoxManage: error: Details: code VBOX_E_FILE_ERROR (0x80bb0004), component MachineWrap"
                )
            identifier = str(uuid.uuid4())
            state["machines"][name] = {
                "uuid": identifier,
                "home": str(home),
                "settings": {},
                "media": {},
                "macs": [_new_mac(), _new_mac()],
                "saved": False,
                "ssh_port": 0,
                "started": False,
                "lease": "",
            }
        (home / "Logs").mkdir(parents=True, exist_ok=True)
        (home / f"{name}.vbox").write_text(f"<!-- {identifier} -->\n")
        return f"Virtual machine '{name}' is created and registered.\nUUID: {identifier}\n"

    def _modify(self, name: str, arguments: list[str]) -> None:
        with self._state() as state:
            machine = _machine(state, name)
            if arguments[:2] == ["--natpf1", "delete"]:
                if not machine["ssh_port"]:
                    raise VBoxError(
                        "VBoxManage: error: Code NS_ERROR_INVALID_ARG (0x80070057) - Invalid argument value"
                    )
                machine["ssh_port"] = 0
            elif arguments[0] == "--natpf1":
                machine["ssh_port"] = int(arguments[1].split(",")[3])
            else:
                machine["settings"].update(_options(arguments))

    def _attach(self, name: str, options: dict[str, str]) -> None:
        medium = options["medium"]
        if not Path(medium).is_file():
            raise VBoxError(f"VBoxManage: error: Could not find file for the medium '{medium}' (VERR_FILE_NOT_FOUND)")
        with self._state() as state:
            _machine(state, name)["media"][f"{options['storagectl']}-{options['port']}-{options['device']}"] = medium

    def _noted(self, name: str) -> None:
        """Settings that mean nothing to a container."""
        with self._state() as state:
            _machine(state, name)

    def _container(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def _state_of(self, name: str, machine: State) -> str:
        if machine["saved"]:
            return "saved"
        if not machine["started"]:  # there is no container, nor need there be an engine
            return "poweroff"
        try:
            state = container_state(self._container(name))
        except EngineError as error:
            raise VBoxError(f"VBoxManage: error: {error}") from error
        return state

    def _show(self, name: str) -> str:
        time.sleep(float(fault("slow") or 0))
        with self._state() as state:
            machine = _machine(state, name)
        settings = machine["settings"]
        lines = [
            f'name="{name}"',
            f'UUID="{machine["uuid"]}"',
            f'CfgFile="{machine["home"]}/{name}.vbox"',
            f"memory={settings.get('memory', 128)}",
            f"cpus={settings.get('cpus', 1)}",
            f'VMState="{self._state_of(name, machine)}"',
            *(f'"{place}"="{medium}"' for place, medium in machine["media"].items()),
        ]
        for number, mac in enumerate(machine["macs"], 1):
            kind = settings.get(f"nic{number}", "none")
            if kind == "hostonly":
                lines.append(f'hostonlyadapter{number}="{settings[f"hostonlyadapter{number}"]}"')
            if kind != "none":
                lines.append(f'macaddress{number}="{mac.replace(":", "").upper()}"')
            lines.append(f'nic{number}="{kind}"')
        if machine["ssh_port"]:
            lines.append(f'Forwarding(0)="ssh,tcp,127.0.0.1,{machine["ssh_port"]},,22"')
        return "".join(f"{line}\n" for line in lines)

    def _start(self, name: str) -> str:
        with self._state() as state:
            machine = _machine(state, name)
            if self._state_of(name, machine) == "running":
                raise VBoxError(f"VBoxManage: error: The machine '{name}' is already locked by a session")
            if fault_of("startvm-fails", name):
                raise VBoxError(_NO_VTX)
            machine["started"] = True
            offer = state["offer"]
            machine["saved"] = False
            guest = self._guest(state, name, machine)
        (Path(machine["home"]) / "Logs" / "VBox.log").write_text("00:00:00.000000 VirtualBox VM stand-in\n")
        offer = self.hypervisor.start(guest, offer)
        with self._state() as state:
            state["offer"] = offer
        return f'Waiting for VM "{name}" to power on...\nVM "{name}" has been successfully started.\n'

    def _guest(self, state: State, name: str, machine: State) -> Any:
        from stand_in.guests import Adapter, Guest

        adapter, lease = None, ""
        if machine["settings"].get("nic2") == "hostonly":
            found = _adapter(state, machine["settings"]["hostonlyadapter2"])
            if not found["ip"]:
                raise VBoxError(f"VBoxManage: error: the host-only adapter {found['name']} has no address")
            address = ipaddress.ip_interface(f"{found['ip']}/{found['mask']}")
            adapter = Adapter(f"{self.prefix}-{found['name']}", ipaddress.IPv4Interface(address))
            server = state["dhcp"].get(_DHCP_PREFIX + found["name"])
            machine["lease"] = _lease(state, name, adapter.address.network, server)
            lease = f"{machine['lease']}/{adapter.address.network.prefixlen}"
            if fault_of("no-lease", name) or not (server and server["enabled"]):
                lease = ""
        disk = next((Path(medium) for medium in machine["media"].values() if medium.endswith(".vmdk")), None)
        return Guest(
            container=self._container(name),
            adapter=adapter,
            mac=machine["macs"][1],
            address=machine["lease"],
            lease=lease,
            ssh_port=machine["ssh_port"],
            userdata=disk.read_bytes() if disk else b"",
            has_engine=not fault_of("engine-fails", name),
        )

    def _control(self, name: str, action: str) -> None:
        with self._state() as state:
            machine = _machine(state, name)
            now = self._state_of(name, machine)
            if now not in ("running", "paused"):
                raise VBoxError(f"VBoxManage: error: Machine '{name}' is not currently running")
            container = self._container(name)
            if action == "pause":
                self.hypervisor.pause(container)
            elif action == "savestate":  # it ends, as it must not hold its port; and boots when it should go on
                self.hypervisor.power_off(container)
                machine["saved"] = True
            elif action == "resume":
                self.hypervisor.resume(container)
            elif action == "acpipowerbutton":
                if not fault_of("stop-hangs", name):
                    self.hypervisor.press_power_button(container)
            elif action == "poweroff":
                self.hypervisor.power_off(container)
            else:
                raise VBoxError(f"VBoxManage: error: Invalid parameter '{action}'")

    def _unregister(self, name: str, arguments: list[str]) -> str:
        with self._state() as state:
            machine = _machine(state, name)
            if self._state_of(name, machine) in ("running", "paused"):
                raise VBoxError(f"VBoxManage: error: Cannot unregister the machine '{name}' while it is locked")
            del state["machines"][name]
        if machine["started"]:
            self.hypervisor.delete(self._container(name))
        if "--delete" in arguments:
            shutil.rmtree(machine["home"], ignore_errors=True)
            for medium in machine["media"].values():
                if medium.endswith(".vmdk"):
                    Path(medium).unlink(missing_ok=True)
        return "0%...10%...20%...100%\n"

    # The stand-in's own

    def _image(self) -> str:
        with self.hypervisor.api() as api:
            return f"{self.hypervisor.image(api)}\n"

    def _clear(self) -> None:
        self.hypervisor.clear()
        shutil.rmtree(self.directory, ignore_errors=True)


def write_disk(path: Path, content: IO[bytes]) -> None:
    """Keep the first blocks of a raw disk, and read the rest, however long, as the caller expects."""
    path.write_bytes(content.read(_USERDATA_BYTES * 4))
    while content.read(1 << 20):
        pass


def _options(arguments: Sequence[str]) -> dict[str, str]:
    """Return the values of ``--name value``; an option without a value has an empty one."""
    options: dict[str, str] = {}
    name = ""
    for word in arguments:
        if word.startswith("--"):
            name = word[2:]
            options[name] = ""
        elif name:
            options[name] = word
    return options


def _machine(state: State, name: str) -> State:
    if name not in state["machines"]:
        raise VBoxError(
            f"VBoxManage: error: Could not find a registered machine named '{name}'\n"
            "VBoxManage: error: Details: code VBOX_E_OBJECT_NOT_FOUND (0x80bb0001), component VirtualBoxWrap"
        )
    machine: State = state["machines"][name]
    return machine


def _adapter(state: State, name: str) -> State:
    for adapter in state["adapters"]:
        if adapter["name"] == name:
            found: State = adapter
            return found
    raise VBoxError(f"VBoxManage: error: The host network interface named '{name}' could not be found")


def _new_mac() -> str:
    return "08:00:27:" + ":".join(f"{random.randrange(256):02x}" for _ in range(3))  # noqa: S311 - no secret


def _allowed(address: str) -> bool:
    try:
        lines = [line.partition("#")[0].split() for line in networks_conf().read_text().splitlines()]
        ranges = [word.rstrip(",") for line in lines if line[:1] == ["*"] for word in line[1:]]
    except OSError:
        ranges = [_ALLOWED]
    return any(
        ipaddress.ip_address(address) in ipaddress.ip_network(word, strict=False) for word in ranges if ":" not in word
    )


def _lease(state: State, name: str, network: ipaddress.IPv4Network, server: State | None) -> str:
    """Return the address that the DHCP server gives a VM: the one it had, unless it is to change."""
    low = ipaddress.ip_address(server["lowerip"]) if server else network[100]
    high = ipaddress.ip_address(server["upperip"]) if server else network[254]
    taken = {machine["lease"] for other, machine in state["machines"].items() if other != name}
    had = state["machines"][name]["lease"]
    if had and ipaddress.ip_address(had) in network and had not in taken and not fault_of("address-changes", name):
        return str(had)
    pool = [str(ipaddress.ip_address(number)) for number in range(int(low), int(high) + 1)]
    return next(address for address in pool if address not in taken and address != had)


def main() -> int:
    try:
        sys.stdout.write(VirtualBox().call(sys.argv[1:]))
    except VBoxError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
