# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From which addresses a swarm's networks get theirs, so that they meet none that machines use. Decisions only.

A container reaches the addresses of its own network there and nowhere else. So a name server, a host or a route whose
address a network of the swarm has too is out of reach for the containers on that network.

Facts of the engine (Docker 20.10, also true of later ones): pools are given when a swarm is made, and never again. The
ingress network gets the first addresses, each network that is made the next free ones.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

AUTO = "auto"
#: what an engine takes when it is told nothing
ENGINES_POOL, ENGINES_PREFIX = IPv4Network("10.0.0.0/8"), 24
#: where a pool is looked for, in this order: private addresses, and at last those of RFC 6598, which providers share
_RANGES = [IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")]
#: the bridges that every engine makes on its machine, where it is told nothing
_BRIDGES = {"every engine": {"172.17.0.0/16": "bridge docker0", "172.18.0.0/16": "bridge docker_gwbridge"}}
#: a network has an address for its gateway, and is of use for two containers or more
_LONGEST_PREFIX = 29
#: a pool that is chosen has room for 16 networks at least; engines keep a list of all, so for 65536 at most
_LEAST_BITS, _MOST_BITS = 4, 16
#: one for the ingress, one for a stack
_LEAST_NETWORKS = 2
_NO_HOSTS = [IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")]
_NAMES_TOLD = 3

#: by host: the addresses and networks that it uses itself (``machine_networks``), and what each is
Used = Mapping[str, Mapping[str, str]]
Object = Mapping[str, Any]


def problems_of(pools: Any, prefix: Any, used: Used) -> list[str]:
    """Return what is wrong with ``swarm_address_pools`` and ``swarm_address_pool_prefix``: variable, value, remedy."""
    size, problems = _size(prefix)
    if _is_auto(pools):
        return problems
    remedy = "give a list of networks such as 10.64.0.0/10, or auto, which finds one that no host uses"
    if not (isinstance(pools, list) and pools and all(isinstance(pool, str) for pool in pools)):
        return [*problems, f"swarm_address_pools is {pools!r}: {remedy}"]
    networks = []
    for pool in pools:
        try:
            networks.append(_pool(pool))
        except ValueError as error:
            problems.append(f"swarm_address_pools has {pool!r}, and {error}: {remedy}")
    problems += [
        f"swarm_address_pools has {one} and {other}, which overlap: take one of them out"
        for number, one in enumerate(networks)
        for other in networks[:number]
        if one.overlaps(other)
    ]
    problems += [
        f"swarm_address_pools has {network}, which meets {', '.join(met)}: {remedy}"
        for network in networks
        if (met := meetings(network, {**used, **_BRIDGES}))
    ]
    if size and len(networks) == len(pools):
        problems += _misfits(networks, size)
    return problems


def _size(prefix: Any) -> tuple[int, list[str]]:
    """Return the prefix length of a network, 0 where that is none, and what is wrong."""
    first = ENGINES_POOL.prefixlen + 1
    if str(prefix).isdecimal() and first <= int(prefix) <= _LONGEST_PREFIX:
        return int(prefix), []
    return 0, [
        f"swarm_address_pool_prefix is {prefix!r}: give the prefix length of each network of the swarm, a number from "
        f"{first} to {_LONGEST_PREFIX}, such as {ENGINES_PREFIX}"
    ]


def _is_auto(pools: Any) -> bool:
    return pools in (AUTO, [AUTO])


def _pool(text: str) -> IPv4Network:
    """Return a pool; ValueError says what it is instead."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("that is no network") from None
    if not isinstance(network, IPv4Network):
        raise ValueError("networks of a swarm get IPv4 addresses from its pools")
    if str(network) != text:
        raise ValueError(f"the network that this is in is written {network}")
    if any(network.overlaps(other) for other in _NO_HOSTS):
        raise ValueError("a container cannot have addresses from it")
    return network


def _misfits(networks: Sequence[IPv4Network], size: int) -> Iterator[str]:
    """Say which pools cannot be cut into networks of this *size*, a prefix length, or that there are too few."""
    variables = "swarm_address_pool_prefix and swarm_address_pools"
    larger = [network for network in networks if network.prefixlen > size]
    for network in larger:
        yield f"{variables} do not fit: no network of /{size} is in {network}: give a greater number or a larger pool"
    if not larger and sum(1 << (size - network.prefixlen) for network in networks) < _LEAST_NETWORKS:
        yield (
            f"{variables} do not fit: {networks[0]} is one network of /{size}, which the ingress takes, and every "
            "stack needs another: give a greater number or a larger pool"
        )


def meetings(network: IPv4Network, used: Used) -> list[str]:
    """Return what a network or a pool meets, each with what it is and of which hosts."""
    hosts: dict[tuple[IPv4Network, str], list[str]] = {}
    for host, theirs in used.items():
        for text, what in theirs.items():
            other = ipaddress.ip_interface(text).network
            if isinstance(other, IPv4Network) and other.overlaps(network):
                hosts.setdefault((other, what), []).append(host)
    return [f"{_told(other)} ({what} of {_names(names)})" for (other, what), names in sorted(hosts.items())]


def _told(network: IPv4Network) -> str:
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def _names(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_TOLD
    told = [*names[:_NAMES_TOLD], *([f"{more} more"] if more > 0 else [])]
    return " and ".join(filter(None, [", ".join(told[:-1]), told[-1]]))


def choose(pools: Any, prefix: Any, used: Used) -> tuple[list[str], int]:
    """Return the pools that a swarm is to be made with, and the prefix length of its networks.

    No pool where the engine's own will do. ApiaryError for pools that cannot be, and where all that there are meet
    something.
    """
    if problems := problems_of(pools, prefix, used):
        raise ApiaryError("; ".join(problems))
    size = int(prefix)
    if not _is_auto(pools):
        return list(pools), size
    if not meetings(ENGINES_POOL, used):
        return ([] if size == ENGINES_PREFIX else [str(ENGINES_POOL)]), size
    every = {**used, **_BRIDGES}
    for whole in _RANGES:
        free = _largest(_free(whole, every))
        if free and free.prefixlen + _LEAST_BITS <= size:
            # The highest addresses: hosts rather have low ones.
            return [str(list(free.subnets(new_prefix=max(free.prefixlen, size - _MOST_BITS)))[-1])], size
    taken = [met for whole in _RANGES for met in meetings(whole, every)]
    raise ApiaryError(
        f"swarm_address_pools is {AUTO}, and no private range has room for {1 << _LEAST_BITS} networks of /{size} that "
        f"meet nothing: there are {', '.join(taken)}. Set swarm_address_pools to a list of networks that no host uses"
    )


def _free(whole: IPv4Network, used: Used) -> list[IPv4Network]:
    """Return what is left of a range."""
    free = [whole]
    for text in {text for theirs in used.values() for text in theirs}:
        other = ipaddress.ip_interface(text).network
        if isinstance(other, IPv4Network):
            free = [part for block in free for part in _without(block, other)]
    return free


def _without(block: IPv4Network, other: IPv4Network) -> Iterable[IPv4Network]:
    if not block.overlaps(other):
        return [block]
    return block.address_exclude(other) if other.subnet_of(block) else []


def _largest(blocks: Iterable[IPv4Network]) -> IPv4Network | None:
    """Return the largest block; of several the one with the highest addresses."""
    return max(blocks, key=lambda block: (block.num_addresses, block), default=None)


def unheeded(pools: Any, prefix: Any, actual: Sequence[str], actual_size: int) -> list[str]:
    """Return a warning where a swarm that is there has other pools than those that are given."""
    if _is_auto(pools) or not actual or (sorted(pools), int(prefix)) == (sorted(actual), actual_size):
        return []
    return [
        f"the swarm takes networks of /{actual_size} from {', '.join(actual)}, not of /{prefix} from "
        f"{', '.join(pools)} (swarm_address_pools): pools are given when a swarm is made, and only a new one has "
        "others (playbooks/destroy.yml, then site.yml)"
    ]


def troubles(networks: Iterable[Object], used: Used) -> list[str]:
    """Return which of the swarm's *networks*, as the Engine's API lists them, meet what hosts use."""
    found = []
    for network in sorted(networks, key=lambda network: str(network["Name"])):
        for config in (network.get("IPAM") or {}).get("Config") or []:
            subnet = ipaddress.ip_network(config.get("Subnet") or "::/128")
            if isinstance(subnet, IPv4Network) and (met := meetings(subnet, used)):
                found.append(f"the network {network['Name']} ({subnet}) meets {', '.join(met)}: {_cure(network)}")
    return found


def _cure(network: Object) -> str:
    lost = "its containers reach nothing there, no name server either. "
    if network.get("Ingress"):
        return f"{lost}Only a new swarm has another: playbooks/destroy.yml, then site.yml"
    return f"{lost}Give it a subnet of its own (ipam) in the compose file, under another name, and deploy the stack"


def prospects(pools: Iterable[str], used: Used) -> list[str]:
    """Return which of the swarm's *pools* meet what hosts use, so that networks to come may."""
    return [
        f"the swarm takes the addresses of its networks from {pool}, which meets {', '.join(met)}. A network that gets "
        "those reaches nothing there, no name server either. Give networks subnets of their own (ipam) in the compose "
        "file; only a new swarm has other pools: playbooks/destroy.yml, then site.yml"
        for pool in pools
        if (met := meetings(IPv4Network(pool), used))
    ]
