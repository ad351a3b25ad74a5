# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host that exists: what it says of itself, and what would keep it from being a node. Decisions only, no requests."""

from __future__ import annotations

import ipaddress
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

#: of Docker 19.03
OLDEST_API = (1, 40)
_ENGINE_MIB = 1024
_MARK = "--apiary--"
_DEBIAN, _RHEL = {"debian", "ubuntu"}, {"rhel", "centos", "fedora"}
#: interfaces that an engine makes, or that lead to one computer alone
_INNER = re.compile(r"lo$|docker|br-[0-9a-f]{12}$|veth|virbr|cni|flannel|podman")

Seen = Mapping[str, Any]

# What is asked of a host, as its user: cheap, as every run asks it. Kernel: as container nodes report it.
_LOOK = rf"""
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
say() {{ echo "{_MARK} $1"; }}
lacks() {{ [ -e "$2" ] || modprobe --dry-run --quiet "$1" 2>/dev/null || echo "$1"; }}
say user; id -un; id -u
say hostname; uname -n
say release; cat /etc/os-release
say machine_id; cat /etc/machine-id 2>/dev/null
say addresses; ip -o -4 address show 2>/dev/null
say route; ip -o -4 route get 192.0.2.1 2>/dev/null
say routes; ip -o -4 route show table all type unicast 2>/dev/null || ip -4 route show 2>/dev/null
say resolvers; cat /etc/resolv.conf /run/systemd/resolve/resolv.conf 2>/dev/null
say init; if [ -d /run/systemd/system ]; then echo systemd; else echo sysv; fi
say socket; if [ -S "$socket" ]; then
  stat -L -c %g "$socket"
  if [ -r "$socket" ] && [ -w "$socket" ]; then echo usable; fi
fi
say tools
for tool in apt-get dnf yum docker dockerd perl python3 firewall-cmd nft ufw; do
  ! command -v "$tool" >/dev/null || echo "$tool"
done
[ ! -x /usr/libexec/platform-python ] || echo /usr/libexec/platform-python
client=$(command -v docker)
[ -z "$client" ] || [ "$(head -c 2 "$client")" != '#!' ] || ! grep -q podman "$client" || echo podman-docker
say firewall
grep -qs '^ENABLED=yes' /etc/ufw/ufw.conf && echo ufw
[ -e /run/firewalld.pid ] && echo firewalld
say lacks
lacks ip_vs /proc/net/ip_vs
lacks vxlan /sys/module/vxlan
grep -qw overlay /proc/filesystems || modprobe --dry-run --quiet overlay 2>/dev/null || echo overlay
lacks br_netfilter /proc/sys/net/bridge/bridge-nf-call-iptables
say space; df -Pm /var/lib | tail -n 1
say data; if [ -d "$data" ]; then echo yes; fi
say clock; date +%s
"""

#: what only root may see
ROOT_LOOK = rf"""
say() {{ echo "{_MARK} $1"; }}
say root; id -u
say running; pid=$(cat /var/run/docker.pid 2>/dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && echo yes
say daemon; cat /etc/docker/daemon.json 2>/dev/null
true
"""


def look_script(socket: str, data_dir: str) -> str:
    """Return the script that has a host tell what it is."""
    return f"socket={_quoted(socket)} data={_quoted(data_dir)}\n{_LOOK}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def sections(text: str) -> dict[str, str]:
    """Return what was said under each heading; what came before the first, such as a login's greeting, is dropped."""
    said: dict[str, list[str]] = {}
    for line in text.splitlines():
        mark, _, name = line.partition(f"{_MARK} ")
        if name and not mark:
            said[name] = []
        elif said:
            said[list(said)[-1]].append(line)
    return {name: "\n".join(lines) for name, lines in said.items()}


def parse(text: str, now: float) -> dict[str, Any]:
    """Return what a host has answered to ``look_script``; *now* is this computer's time in the middle of it."""
    said = sections(text)
    user = said.get("user", "").split()
    release = {
        key: value.strip("\"'")
        for key, _, value in (line.partition("=") for line in said.get("release", "").split("\n"))
    }
    rows = re.findall(r"^\d+:\s+(\S+)\s+inet\s+([0-9.]+)(/\d+)?", said.get("addresses", ""), re.MULTILINE)
    socket = said.get("socket", "").split()
    space = said.get("space", "").split()
    source = re.search(r"\bsrc ([0-9.]+)", said.get("route", ""))
    return {
        "user": user[0] if user else "",
        "is_root": user[1:] == ["0"],
        "hostname": said.get("hostname", "").strip(),
        "machine_id": said.get("machine_id", "").strip(),
        "system": release.get("PRETTY_NAME") or release.get("ID") or "an unknown system",
        "release": {key: release.get(key, "") for key in ("ID", "ID_LIKE", "VERSION_CODENAME", "UBUNTU_CODENAME")},
        "addresses": [
            {"interface": name.partition("@")[0], "address": address + (prefix or "/32")}
            for name, address, prefix in rows
        ],
        "route_source": source[1] if source else "",
        "networks": _networks(said, [address + (prefix or "/32") for _name, address, prefix in rows]),
        "init": said.get("init", "").strip(),
        "socket": bool(socket),
        "socket_group": int(socket[0]) if socket and socket[0].isdigit() else 0,
        "socket_usable": "usable" in socket,
        "tools": said.get("tools", "").split(),
        "firewall": said.get("firewall", "").split(),
        "kernel_lacks": said.get("lacks", "").split(),
        "space_mib": int(space[3]) if len(space) > 3 and space[3].isdigit() else None,
        "data_dir": said.get("data", "").strip() == "yes",
        "clock_offset": int(said["clock"]) - now if said.get("clock", "").strip().isdigit() else 0.0,
    }


def _networks(said: Mapping[str, str], addresses: Sequence[str]) -> dict[str, str]:
    """Return the addresses and networks that a host uses, and what each is (``machine_networks``)."""
    found = [(str(ipaddress.IPv4Interface(address).network), "network") for address in addresses]
    routes = re.findall(r"^([0-9.]+(?:/\d+)?) .*?\bdev (\S+)", said.get("routes", ""), re.MULTILINE)
    found += [(network, f"route through {device}") for network, device in routes]
    resolvers = re.findall(r"^nameserver\s+([0-9.]+)\s*$", said.get("resolvers", ""), re.MULTILINE)
    found += [(address, "name server") for address in resolvers]
    networks: dict[str, str] = {}
    for text, what in found:
        network = ipaddress.IPv4Interface(text).network
        # Neither what leads everywhere, which some VPNs write as two halves, nor what never leaves the host
        if network.prefixlen > 1 and not network.is_loopback:
            networks.setdefault(text.removesuffix("/32"), what)
    return networks


def has_engine(seen: Seen) -> bool:
    """Say whether there is an engine, running or not."""
    return bool(seen["socket"] or "dockerd" in seen["tools"])


def family(seen: Seen) -> str:
    """Return ``debian`` or ``rhel``, by whose packages its engine can be installed; empty for neither."""
    names = {seen["release"]["ID"], *seen["release"]["ID_LIKE"].split()}
    if names & _DEBIAN and "apt-get" in seen["tools"]:
        return "debian"
    if names & _RHEL and {"dnf", "yum"} & set(seen["tools"]):
        return "rhel"
    return ""


# Addresses


def _outer(seen: Seen) -> list[tuple[str, ipaddress.IPv4Interface]]:
    """Return the interfaces by which other hosts may reach it, with their addresses."""
    return [
        (entry["interface"], ipaddress.IPv4Interface(entry["address"]))
        for entry in seen["addresses"]
        if not _INNER.match(entry["interface"])
    ]


def _has(seen: Seen) -> str:
    listed = ", ".join(f"{name} {interface.ip}" for name, interface in _outer(seen))
    return listed or "none but those of its engine"


def choose_addresses(machines: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """Return the address at which the other nodes reach each machine, and what is wrong with those that are given.

    In this order: what the inventory says; the address that the swarm knows it by, while the machine has it; for this
    computer a loopback address; ``ansible_host``, if that is the machine's own; the address on the one network that all
    machines share.
    """
    chosen: dict[str, str] = {}
    problems: list[str] = []
    shared = _shared_networks([machine["seen"] for machine in machines])
    for machine in machines:
        name, seen = machine["name"], machine["seen"]
        own = {str(interface.ip) for _name, interface in _outer(seen)}
        every = {entry["address"].partition("/")[0] for entry in seen["addresses"]}
        in_swarm = (seen.get("swarm") or {}).get("address", "")
        if machine["address"]:
            chosen[name] = machine["address"]
            if every and machine["address"] not in every and not machine["local"]:
                problems.append(
                    f"{name}: existing_machine_address is {machine['address']}, which is no address of the host: it "
                    f"has {_has(seen)}"
                )
        elif machine["interface"]:
            found = [str(address.ip) for interface, address in _outer(seen) if interface == machine["interface"]]
            if found:
                chosen[name] = found[0]
            else:
                problems.append(
                    f"{name}: existing_machine_interface is {machine['interface']!r}, which the host does not have, or "
                    f"without an IPv4 address: it has {_has(seen)}"
                )
        elif in_swarm and (in_swarm in own or machine["local"]):
            chosen[name] = in_swarm
        elif machine["local"]:
            chosen[name] = "127.0.0.1"  # a swarm of one, which nobody else shall reach
        elif machine["host"] in own:
            chosen[name] = machine["host"]
        elif len(shared) == 1:
            chosen[name] = next(str(address.ip) for _name, address in _outer(seen) if address.network in shared)
        elif len(machines) == 1 and (len(own) == 1 or seen["route_source"] in own):
            chosen[name] = seen["route_source"] if seen["route_source"] in own else next(iter(own))
        elif seen["addresses"]:  # without any, that is told
            problems.append(
                f"{name}: at which address the other nodes reach it cannot be told (it has {_has(seen)}; ansible_host "
                f"is {machine['host']}): set existing_machine_interface or existing_machine_address"
            )
    return chosen, problems


def _shared_networks(all_seen: Sequence[Seen]) -> set[ipaddress.IPv4Network]:
    """Return the networks on which each has an address that no other has."""
    networks: dict[ipaddress.IPv4Network, list[str]] = defaultdict(list)
    for seen in all_seen:
        for network, address in {interface.network: interface for _name, interface in _outer(seen)}.items():
            networks[network].append(str(address.ip))
    return {
        network
        for network, addresses in networks.items()
        if len(addresses) == len(all_seen) == len(set(addresses)) and network.num_addresses > 1
    }


# What is wrong


def problems_of(
    machines: Sequence[Mapping[str, Any]],
    addresses: Mapping[str, str],
    *,
    cluster: str,
    adopt: bool,
    clock_seconds: int,
    others: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """Return what would keep the machines from being nodes, each with its name, the variable, its value and the remedy.

    *others* are the hosts of other providers: their names, and the networks that their nodes have among themselves.
    """
    problems = [problem for machine in machines for problem in _own_problems(machine)]
    problems += _twins(machines, addresses, others)
    problems += _clocks(machines, clock_seconds)
    problems += _swarms(machines, addresses, cluster, adopt=adopt)
    problems += _strange_networks(machines, addresses, others)
    return problems


def _own_problems(machine: Mapping[str, Any]) -> Iterator[str]:
    name, seen = machine["name"], machine["seen"]
    engine = seen.get("engine") or {}
    if not seen["addresses"] and not machine["local"]:
        yield f"{name}: has no command ip, or no IPv4 address: install its package iproute2 (iproute)"
    if "podman-docker" in seen["tools"] and "dockerd" not in seen["tools"]:
        yield (
            f"{name}: its command docker is podman's, which knows no swarm: remove the package podman-docker, and run "
            "again to have an engine installed"
        )
    elif not has_engine(seen) and not machine["local"]:
        yield from _uninstallable(machine)
    if engine:
        if tuple(map(int, engine["api_version"].split("."))) < OLDEST_API:
            yield (
                f"{name}: its engine is {engine['version']} (API {engine['api_version']}), and 19.03 (API 1.40) or "
                "newer is needed: upgrade it yourself, with what it was installed from; Apiary replaces no engine"
            )
        if engine["live_restore"] and not seen.get("live_restore_goes"):
            yield (
                f"{name}: its engine has live-restore (/etc/docker/daemon.json), with which it cannot be in a swarm: "
                "take it out, or set existing_machine_daemon_json: {live-restore: false} and "
                "existing_machine_daemon_json_overrides: true"
            )
        if engine["rootless"]:
            yield f"{name}: its engine is rootless, and such a one cannot be a node: use one that runs as root"
    elif seen.get("engine_problem"):
        yield seen["engine_problem"]
    if seen.get("daemon_problem"):
        yield f"{name}: {seen['daemon_problem']}"


def _uninstallable(machine: Mapping[str, Any]) -> Iterator[str]:
    name, seen = machine["name"], machine["seen"]
    if not family(seen):
        yield (
            f"{name}: is {seen['system']}, for which there is no way here to install an engine (there is one for "
            "Debian, Ubuntu and the RHEL family): install Docker 19.03 or newer there yourself, and run again"
        )
    elif seen["space_mib"] is not None and seen["space_mib"] < _ENGINE_MIB:
        yield (
            f"{name}: /var/lib has {seen['space_mib']} MiB free, and an engine with its first images needs "
            f"{_ENGINE_MIB}: make room"
        )


def _twins(
    machines: Sequence[Mapping[str, Any]], addresses: Mapping[str, str], others: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    ids: dict[str, list[str]] = defaultdict(list)
    hostnames: dict[str, list[str]] = defaultdict(list)
    owners: dict[str, list[str]] = defaultdict(list)
    for machine in machines:
        seen = machine["seen"]
        ids[seen["machine_id"]].append(machine["name"])
        hostnames[seen["hostname"]].append(machine["name"])
        owners[addresses.get(machine["name"], "")].append(machine["name"])
    for other in others:
        hostnames[other["name"]].append(other["name"])
    for value, names in ids.items():
        if value and len(names) > 1:
            yield (
                f"{_all(names)}: have the same machine-id ({value}), so they are one host with {len(names)} names in "
                "the inventory, or clones: take the others out, or give each clone its own (rm /etc/machine-id, then "
                "systemd-machine-id-setup, and restart it)"
            )
    for value, names in hostnames.items():
        if value and len(names) > 1:
            yield (
                f"{_all(names)}: have the same host name ({value}), so nobody could tell them apart in the swarm: give "
                "each its own (hostnamectl set-hostname NAME)"
            )
    for value, names in owners.items():
        if value and len(names) > 1:
            yield (
                f"{_all(names)}: would have the same address among the nodes ({value}): set existing_machine_interface "
                "or existing_machine_address"
            )


def _all(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _clocks(machines: Sequence[Mapping[str, Any]], limit: int) -> Iterator[str]:
    """Compare the clocks with each other, not with this computer's: that one need not be right."""
    offsets = {machine["name"]: machine["seen"]["clock_offset"] for machine in machines}
    if len(offsets) < 2:
        return
    middle = statistics.median_low(offsets.values())
    for name, offset in offsets.items():
        apart = offset - middle
        if abs(apart) > limit:
            yield (
                f"{name}: its clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} the others', more "
                f"than {limit} (existing_machine_clock_seconds), so certificates of nodes may not be valid there: set "
                "it (timedatectl set-ntp true)"
            )


def _swarms(
    machines: Sequence[Mapping[str, Any]], addresses: Mapping[str, str], cluster: str, *, adopt: bool
) -> Iterator[str]:
    """Find machines in swarms that are not the cluster's, or known there by addresses that they have no more."""
    members = {
        node
        for machine in machines
        for node in (machine["seen"].get("swarm") or {}).get("nodes", [])
        if adopt or machine["seen"]["swarm"]["cluster"] == cluster
    }
    for machine in machines:
        name, swarm = machine["name"], machine["seen"].get("swarm") or {}
        if swarm.get("state") in (None, "", "inactive"):
            continue
        leaving = f"{machine['seen']['leave']} (what runs there in that swarm is lost)"
        if swarm["control"] and not adopt and not swarm["leaderless"] and swarm["cluster"] != cluster:
            whose = f"of the cluster {swarm['cluster']!r}" if swarm["cluster"] else "which Apiary has not created"
            yield (
                f"{name}: manages a swarm already, {whose}: cluster_name is {cluster!r}. To use that "
                "swarm as it is, set existing_machine_adopt_swarm: true; to make a new one, take the host out of it: "
                f"{leaving}"
            )
        elif not swarm["control"] and members and swarm["node_id"] not in members:
            yield (
                f"{name}: is a worker of a swarm that no manager of the inventory manages (its managers are "
                f"{', '.join(swarm['managers']) or 'unknown'}): take it out of that: {leaving}"
            )
        elif addresses.get(name, swarm["address"]) != swarm["address"]:
            yield (
                f"{name}: is in its swarm as {swarm['address']}, and its address is {addresses[name]}: a node cannot "
                f"change its address. Give the host {swarm['address']} back (existing_machine_address), or let it join "
                f"anew: {leaving}"
            )


def is_ours(seen: Seen, cluster: str, nodes: Collection[str], near: Callable[[str], bool]) -> bool:
    """Say whether a member of a swarm is in the cluster's, so that it may be taken out of it.

    A manager knows by the swarm's label. A worker does not, nor does a manager without a leader: *nodes* are those that
    our managers know, and *near* says whether an address is one of the inventory's, where the other managers are then.
    """
    swarm = seen["swarm"]
    if swarm["control"] and not swarm["leaderless"]:
        return bool(swarm["cluster"] == cluster)
    managers = [manager.rpartition(":")[0].strip("[]") for manager in swarm["managers"]]
    return swarm["node_id"] in nodes or (bool(managers) and all(near(manager) for manager in managers))


def _strange_networks(
    machines: Sequence[Mapping[str, Any]], addresses: Mapping[str, str], others: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Find machines that cannot reach nodes of other providers, as those have a network of their own."""
    for network, names in networks_of(others).items():
        outside = [
            machine["name"]
            for machine in machines
            if machine["name"] in addresses and ipaddress.ip_address(addresses[machine["name"]]) not in network
        ]
        if outside:
            yield (
                f"{', '.join(outside)}: cannot be in one swarm with {', '.join(names)}, whose network {network} is one "
                f"of this computer alone. A host can that has an address in it: set existing_machine_interface or "
                "existing_machine_address, or keep an inventory for each"
            )


def networks_of(others: Iterable[Mapping[str, Any]]) -> dict[ipaddress.IPv4Network, list[str]]:
    networks: dict[ipaddress.IPv4Network, list[str]] = defaultdict(list)
    for other in others:
        if other.get("network"):
            networks[ipaddress.IPv4Interface(other["network"]).network].append(other["name"])
    return networks
