# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What would keep virtual machines from running on this host: each check returns sentences, none means fine."""

from __future__ import annotations

import ipaddress
import os
import platform
import re
import shutil
import socket
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.cluster_files import API_PORT
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.qemu import SSH_PORT

#: ports that every machine forwards besides those asked for
OWN_PORTS = frozenset({("tcp", API_PORT), ("tcp", SSH_PORT)})
#: bytes of a socket's path: sun_path of Linux's unix(7), and that of macOS and the BSDs, less the closing NUL
SOCKET_PATH_LIMIT = 107 if sys.platform == "linux" else 103
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
_MINIMUM_MEMORY_MIB = 512
_MINIMUM_DISK_GIB = 2


def report(problems: Iterable[str]) -> str:
    """Return the problems as one message."""
    return "Nothing has been changed. Before the machines can be made:\n" + "\n".join(f"  - {p}" for p in problems)


def require_linux(provider: str) -> None:
    """Refuse, before all else, a *provider* whose machines need this computer's kernel to be Linux."""
    if (system := platform.system()) != "Linux":
        raise ApiaryError(
            f"machine_provider is {provider}, which needs Linux, and this computer has {system}: run Apiary on Linux "
            "or in a Linux VM, or use INVENTORY=ssh (docs/hosts.md) or INVENTORY=virtualbox (docs/virtualbox.md)"
        )


def host_ports(forwarded_ports: Iterable[Mapping[str, Any]]) -> set[tuple[str, int]]:
    """Return protocol and port of each entry of ``forwarded_ports``."""
    return {(port.get("protocol", "tcp"), int(port["published"])) for port in forwarded_ports}


def address_problems(
    machines: Iterable[Mapping[str, Any]], networks: Mapping[str, tuple[str, str]], number_variable: str
) -> list[str]:
    """Check names and addresses: well-formed, inside their ranges, and no two machines with the same.

    *networks* says for each address that a machine has which variable gives its range, and that variable's value; one
    called ``entrypoint`` is to be a loopback address. *number_variable* is the one that chooses a machine's place in
    the ranges.
    """
    problems = []
    ranges = {}
    for option, (variable, value) in networks.items():
        try:
            ranges[option] = ipaddress.ip_network(value)
        except ValueError as error:
            problems.append(f"{variable} is {value!r}: {error}; give a network such as 127.0.99.0/24")
    if problems:
        return problems
    if "entrypoint" in ranges and not ranges["entrypoint"].is_loopback:
        variable, value = networks["entrypoint"]
        problems.append(
            f"{variable} is {value}, which lies outside 127.0.0.0/8: "
            "machines are reached through loopback addresses alone"
        )
    users: dict[str, list[str]] = defaultdict(list)
    for machine in machines:
        name = machine["name"]
        if not _HOST_NAME.fullmatch(name):
            problems.append(
                f"{name!r} cannot be a host name: letters, digits and inner hyphens only; rename it in the inventory"
            )
        for option, network in ranges.items():
            value = machine[option]
            users[value].append(name)
            try:
                address = ipaddress.ip_address(value)
            except ValueError:
                address = None
            if address is None or address not in network or address in (network[0], network[1], network[-1]):
                problems.append(
                    f"{name}: {option} would be {value!r}, which is no address for a machine "
                    f"in {networks[option][0]} ({network}): "
                    f"set {number_variable} for it in the inventory to a number from 2 to 254"
                )
    problems += [
        f"{value} is the address of {' and '.join(names)}: give each its own {number_variable} in the inventory"
        for value, names in users.items()
        if len(names) > 1
    ]
    return problems


def size_problems(machines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Check that sizes can work at all."""
    problems = []
    for machine in machines:
        for option, minimum in (
            ("memory_mib", _MINIMUM_MEMORY_MIB),
            ("disk_gib", _MINIMUM_DISK_GIB),
            ("cpus", 1),
        ):
            if machine[option] < minimum:
                problems.append(
                    f"{machine['name']}: qemu_machine_{option} is {machine[option]}; an engine needs at least {minimum}"
                )
    return problems


def port_problems(
    name: str, entrypoint: str, ports: Iterable[tuple[str, int]], network_variable: str, *, as_root: bool = False
) -> list[str]:
    """Check that ports of a loopback address are free, by taking each for a moment.

    With *as_root*, who takes them in the end may have those below 1024, and for those nothing can be told from here.
    """
    problems = []
    for protocol, port in sorted(ports):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((entrypoint, port))
                if protocol == "tcp":
                    probe.listen(1)
            except PermissionError:
                if as_root:
                    continue
                problems.append(
                    f"{entrypoint}:{port}/{protocol} ({name}): a port below 1024 needs root on this host; "
                    "publish a higher one in the stack"
                )
            except OSError as error:
                problems.append(
                    f"{entrypoint}:{port}/{protocol} ({name}) cannot be used on this host: "
                    f"{os.strerror(error.errno or 0)}. 'ss -lnp sport = :{port}' shows by whom; end that, "
                    f"publish another port, or choose another {network_variable}"
                )
    return problems


def memory_problems(machines: Sequence[Mapping[str, Any]], meminfo: str) -> list[str]:
    """Check that the machines that are to be started fit in what ``/proc/meminfo`` calls available."""
    needed = sum(machine["memory_mib"] for machine in machines)
    available = int(re.search(r"MemAvailable:\s+(\d+)", meminfo)[1]) >> 10  # type: ignore[index]  # always there
    if needed <= available:
        return []
    return [
        f"{len(machines)} machines need {needed} MiB of memory and {available} MiB are available: "
        "lower qemu_machine_memory_mib or take machines out of the inventory"
    ]


def space_problems(variable: str, path: Path, needed_bytes: int) -> list[str]:
    """Check the free space of the file system that *path* is or will be on."""
    existing = path
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free >= needed_bytes:
        return []
    return [
        f"{existing} has {free >> 20} MiB free and {needed_bytes >> 20} MiB are needed: make room, "
        f"or set {variable} to a directory elsewhere"
    ]
