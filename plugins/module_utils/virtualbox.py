# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What would keep VirtualBox machines from being made or run: each check returns sentences, none means fine."""

from __future__ import annotations

import http.client
import ipaddress
import re
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from ansible_collections.apiary.swarm.plugins.module_utils.docker_machine import Store

CIDR_VARIABLE = "virtualbox_hostonly_cidr"
NETWORKS_CONF = Path("/etc/vbox/networks.conf")
_DEFAULT_RANGES = ("192.168.56.0/21",)
#: from here on VirtualBox refuses other host-only ranges, but on Windows
_RESTRICTED_FROM = (6, 1, 28)
#: VirtualBox's DHCP server is at .1 to .24 and gives .100 to .254; this computer is at .1
LOWEST, HIGHEST = 26, 99
_MINIMUM_MEMORY_MIB = 512
_MINIMUM_DISK_MIB = 2000
_ISO_API = "https://api.github.com/repos/boot2docker/boot2docker/releases/latest"
_ISO_SECONDS = 10


def version_of(text: str) -> tuple[int, ...]:
    """Return the numbers at the start of what ``VBoxManage --version`` says: 7.0.20r163906."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text.strip())
    return tuple(map(int, found.groups())) if found else ()


def adapters(text: str) -> list[dict[str, str]]:
    """Return the host-only adapters that ``VBoxManage list hostonlyifs`` lists."""
    found: list[dict[str, str]] = []
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon:
            continue
        if key == "Name":
            found.append({})
        if found:
            found[-1][key] = value.strip()
    return found


def allowed_ranges(networks_conf: str | None) -> list[Any]:
    """Return the ranges in which VirtualBox makes host-only networks, from its file, if it is there."""
    if networks_conf is None:
        return [ipaddress.ip_network(text) for text in _DEFAULT_RANGES]
    found = []
    for line in networks_conf.splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == ["*"]:
            for word in words[1:]:
                try:
                    found.append(ipaddress.ip_network(word.rstrip(","), strict=False))
                except ValueError:
                    continue
    return found


def range_problems(
    cidr: str,
    *,
    version: Sequence[int],
    system: str,
    networks_conf: str | None,
    hostonlyifs: Sequence[Mapping[str, str]],
    routes: str,
    used: bool,
) -> list[str]:
    """Check the host-only network. Where VirtualBox or machines of ours (*used*) have it, it is there by right."""
    try:
        interface = ipaddress.ip_interface(cidr)
    except ValueError as error:
        return [
            f"{CIDR_VARIABLE} is {cidr!r}: {error}; give this computer's address and the mask, as in 192.168.59.1/24"
        ]
    network = interface.network
    if network.version != 4 or network.prefixlen != 24:
        return [f"{CIDR_VARIABLE} is {cidr}: machines get addresses by the last of four bytes, so give a /24"]
    problems = []
    if interface.ip == network.network_address:
        problems.append(
            f"{CIDR_VARIABLE} is {cidr}, which names a network: give this computer's address in it, {network[1]}/24"
        )
    elif int(interface.ip) >= int(network[LOWEST]):
        problems.append(
            f"{CIDR_VARIABLE} is {cidr}: machines get addresses up there, give this computer {network[1]}/24"
        )
    ranges = allowed_ranges(networks_conf)
    allowed = any(other.version == 4 and network.subnet_of(other) for other in ranges)
    if system != "Windows" and tuple(version) >= _RESTRICTED_FROM and not allowed:
        problems.append(
            f"{CIDR_VARIABLE} is {cidr}, which VirtualBox {'.'.join(map(str, version))} refuses: it allows "
            f"{' and '.join(map(str, ranges)) or 'nothing'} ({NETWORKS_CONF}). Choose a range in it, or allow "
            f"yours with a line '* {network}' in {NETWORKS_CONF}"
        )
    own = [item for item in hostonlyifs if item.get("IPAddress") == str(interface.ip)]
    if len(own) > 1:
        several = ", ".join(item["Name"] for item in own)
        problems.append(
            f"VirtualBox has several host-only adapters with the address {interface.ip} ({several}): remove all but "
            "the one that machines use, with 'VBoxManage hostonlyif remove NAME'"
        )
    own_devices = {item.get("Name") for item in hostonlyifs}
    for line in () if used or own else routes.splitlines()[1:]:
        device, destination, *rest = line.split()
        mask = int.from_bytes(bytes.fromhex(rest[5]), "little")
        if device in own_devices or device.startswith("vboxnet") or not mask:
            continue
        address = ipaddress.ip_address(int.from_bytes(bytes.fromhex(destination), "little"))
        route = ipaddress.ip_network(f"{address}/{ipaddress.ip_address(mask)}")
        if network.overlaps(route):
            problems.append(
                f"{CIDR_VARIABLE} is {cidr}, and this computer reaches {route} through {device}: choose a range that "
                "is free"
            )
    return problems


def address_problems(machines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Check that addresses are out of the way of VirtualBox's DHCP server."""
    problems = []
    for machine in machines:
        number = int(machine["address"].rpartition(".")[2])
        if not LOWEST <= number <= HIGHEST:
            problems.append(
                f"{machine['name']}: its address would be {machine['address']}, and VirtualBox's DHCP server has "
                f"those up to .{LOWEST - 1} and from .{HIGHEST + 1} on: set docker_machine_number for it to a number "
                f"from {LOWEST} to {HIGHEST}"
            )
    return problems


def size_problems(machines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Check that sizes can work at all."""
    return [
        f"{machine['name']}: docker_machine_{option} is {machine[option]}; an engine needs at least {minimum}"
        for machine in machines
        for option, minimum in (("memory_mib", _MINIMUM_MEMORY_MIB), ("disk_mib", _MINIMUM_DISK_MIB))
        if machine[option] < minimum
    ]


def host_problems(
    system: str, processor: str, version: Sequence[int], cpuinfo: str | None, *, vtx_check: bool
) -> list[str]:
    """Check that this computer can run machines at all."""
    if processor not in ("x86_64", "AMD64"):
        return [
            f"this computer is {processor}, and boot2docker and docker-machine's virtualbox driver are for x86_64: use "
            "INVENTORY=containers instead, on Linux or in a Linux VM (Lima, UTM, Multipass)"
        ]
    problems = []
    if system == "Darwin" and tuple(version) >= (7,):
        problems.append(
            f"VirtualBox {'.'.join(map(str, version))} on macOS has no host-only adapters any more, which "
            "docker-machine needs: install VirtualBox 6.1, or use INVENTORY=containers in a Linux VM"
        )
    if vtx_check and cpuinfo is not None and not re.search(r"^flags\s*:.*\b(vmx|svm)\b", cpuinfo, re.MULTILINE):
        problems.append(
            "this computer's CPU shows neither vmx nor svm (/proc/cpuinfo): switch VT-x or AMD-V on in its firmware "
            "(BIOS), or use INVENTORY=qemu, which works without; docker_machine_virtualbox: {no_vtx_check: true} "
            "leaves the check out"
        )
    return problems


def open_url(request: urllib.request.Request, timeout: float) -> Any:
    """Open a URL, through the proxies that the environment names, if it names any.

    On macOS urlopen() asks the system for proxies, which a process that was forked without exec, as Ansible's workers
    are, does not survive (github.com/ansible/ansible/issues/76322).
    """
    proxies = urllib.request.ProxyHandler(urllib.request.getproxies_environment())
    return urllib.request.build_opener(proxies).open(request, timeout=timeout)


def iso_problems(url: str, storage: Path, open_url: Callable[..., Any] = open_url) -> list[str]:
    """Check that the ISO can be had for a machine that is to be made."""
    cached = storage / "cache" / "boot2docker.iso"
    remedy = (
        f"set docker_machine_iso_url to a file that you have (file:///home/ann/boot2docker.iso), or put one to {cached}"
    )
    if not url:
        if cached.exists():
            return []
        what, asked = f"there is no {cached}, and the latest ISO is asked for at {_ISO_API}", _ISO_API
    elif url.startswith(("http://", "https://")):
        what, asked = f"docker_machine_iso_url is {url}", url
    else:
        path = Path(url.removeprefix("file://"))
        if path.is_file():
            return []
        return [f"docker_machine_iso_url is {url}, and there is no such file: {remedy}"]
    request = urllib.request.Request(asked, method="GET" if asked == _ISO_API else "HEAD")  # noqa: S310  http or https
    try:
        with open_url(request, timeout=_ISO_SECONDS):
            return []
    except urllib.error.HTTPError as error:
        limit = ", which limits how often it is asked" if error.code in (403, 429) and asked == _ISO_API else ""
        return [f"{what}, which answers {error.code} {error.reason}{limit}: {remedy}"]
    except (OSError, http.client.HTTPException) as error:
        return [f"{what}, which cannot be reached ({getattr(error, 'reason', error)}): {remedy}"]


def store_problems(stores: Iterable[Store], cluster: str, *, adopt: bool) -> list[str]:
    """Check the machines that are there: whose they are, and whether their keys are for their owner's eyes."""
    problems = []
    for store in stores:
        if not store.exists:
            continue
        config = store.config()
        if config and store.cluster != cluster and not adopt:
            owner = f"of the cluster {store.cluster}" if store.cluster else "that Apiary has not made"
            problems.append(
                f"docker-machine has a machine {store.name} {owner}: rename the host in the inventory, choose another "
                "docker_machine_storage_path, or say docker_machine_adopt=true, and it is taken over: its address is "
                "changed, its engine restarted, and playbooks/destroy.yml removes it"
            )
        if store.key.exists() and (mode := stat.S_IMODE(store.key.stat().st_mode)) & 0o077:
            problems.append(
                f"{store.key} has mode {mode:04o}: others may read it, so ssh refuses it. chmod 600 {store.key} (in "
                "WSL, under /mnt, that takes 'options = \"metadata\"' in /etc/wsl.conf)"
            )
    return problems


def authority_problems(storage: Path, names: Iterable[str], now: datetime | None = None) -> list[str]:
    """Check what all machines of the store share: the authority's certificate and the client's."""
    moment, problems = now or datetime.now(UTC), []
    for name, whose in (("ca.pem", "the authority's"), ("cert.pem", "the client's")):
        path = storage / "certs" / name
        if not path.exists():
            continue
        end = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
        if end < moment:
            renewal = "; ".join(f"docker-machine regenerate-certs -f --client-certs {name}" for name in names)
            problems.append(
                f"{path}, {whose} certificate, expired on {end:%Y-%m-%d}, so no machine's API can be used: {renewal} "
                f"(with MACHINE_STORAGE_PATH={storage}; each restarts the machine's engine)"
            )
    return problems


def client_warnings(version: str) -> list[str]:
    """Return what may go wrong between this computer's Docker client, of *version*, and boot2docker's engine."""
    major = version.partition(".")[0]
    if major.isdigit() and int(major) >= 29:
        return [
            f"this computer's Docker client is {version}: the first 29s refuse engines as old as boot2docker's "
            "(19.03, API 1.40). If deploying fails for that, set stack_client: manager, or install a later client"
        ]
    return []


def memory_problems(machines: Sequence[Mapping[str, Any]], meminfo: str) -> list[str]:
    """Check that new machines fit in what ``/proc/meminfo`` calls available."""
    needed = sum(machine["memory_mib"] for machine in machines)
    found = re.search(r"MemAvailable:\s+(\d+)", meminfo)
    available = int(found[1]) >> 10 if found else needed
    if needed <= available:
        return []
    return [
        f"{len(machines)} new machines need {needed} MiB of memory and {available} MiB are available: "
        "lower docker_machine_memory_mib or take machines out of the inventory"
    ]
