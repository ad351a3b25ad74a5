# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node's place in a swarm: what engines say of it, and what has to be done about it. Decisions only, no requests."""

from __future__ import annotations

import copy
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.address_pools import (
    AUTO,
    ENGINES_PREFIX,
    problems_of,
)
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

#: on a swarm that Apiary has created: the cluster's name
CLUSTER_LABEL = "apiary.cluster"
#: the port on which managers listen for nodes and for each other
PORT = 2377
#: on a node that is being taken care of: the availability that it had before, and is to have again
REMEMBERED_LABEL = "apiary.maintenance.availability"


@dataclass(frozen=True)
class Wanted:
    """The outcome: which node, in whose swarm, as what.

    ``managers`` are the ``{name, docker}`` of the inventory, ``networks`` the ``machine_networks`` of all hosts.
    """

    name: str
    docker: Mapping[str, Any]
    role: str
    advertise_address: str
    listen_address: str | None = None
    data_path_address: str | None = None
    managers: Sequence[Mapping[str, Any]] = ()
    create: bool = False
    cluster: str = ""
    address_pools: Any = AUTO
    address_pool_prefix: Any = ENGINES_PREFIX
    networks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
    purge_labels: bool = False
    availability: str = "keep"
    wait_seconds: int = 120

    @property
    def host(self) -> str:
        return str(self.docker["docker_host"])

    def peers(self) -> list[Mapping[str, Any]]:
        """The managers other than this node."""
        return [
            manager
            for manager in self.managers
            if manager["name"] != self.name and manager["docker"]["docker_host"] != self.host
        ]


@dataclass(frozen=True)
class Membership:
    """What an engine says about its own place in a swarm (``Swarm`` of ``GET /info``)."""

    state: str
    node_id: str = ""
    control: bool = False
    addr: str = ""
    error: str = ""
    remote_managers: tuple[str, ...] = ()
    hostname: str = ""


@dataclass(frozen=True)
class Seen:
    """A manager of the inventory that does not lead: ``state`` is one of the engine's, or ``unreachable``."""

    name: str
    state: str
    control: bool = False
    detail: str = ""
    #: the address that its swarm knows it by
    addr: str = ""

    @property
    def transient(self) -> bool:
        """Whether it may still become a manager that answers: an engine just started, or a leader not elected yet."""
        return self.state == "pending" or (self.state == "active" and self.control)


def scrub(text: str) -> str:
    """Return *text* without join tokens and unlock keys."""
    return re.sub(r"SWM(TKN|KEY)-\S+", r"SWM\1-(hidden)", text)


def membership(info: Mapping[str, Any]) -> Membership:
    """Return the part of ``GET /info`` that matters here. An engine without swarm mode counts as inactive."""
    swarm = info.get("Swarm") or {}
    node_id = swarm.get("NodeID") or ""
    remotes = swarm.get("RemoteManagers") or []
    # The node's own address comes first: who joins through it uses the address that was seen to answer.
    remotes = sorted(remotes, key=lambda remote: remote.get("NodeID") != node_id)
    return Membership(
        state=swarm.get("LocalNodeState") or "inactive",
        node_id=node_id,
        control=bool(swarm.get("ControlAvailable")),
        addr=swarm.get("NodeAddr") or "",
        error=scrub(swarm.get("Error") or ""),
        remote_managers=tuple(remote["Addr"] for remote in remotes if remote.get("Addr")),
        hostname=info.get("Name") or "",
    )


def with_port(address: str, port: int = PORT) -> str:
    """Return *address* with a port, unless it has one: ``eth1`` → ``eth1:2377``, ``fd00::1`` → ``[fd00::1]:2377``."""
    if address.count(":") > 1:
        return address if address.startswith("[") and "]:" in address else f"[{address.strip('[]')}]:{port}"
    return address if ":" in address else f"{address}:{port}"


def label_text(name: str, value: Any) -> str:
    """Return a label's *value* as the string that the engine keeps: YAML's ``true`` is ``true``, not ``True``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ApiaryError(
        f"the node label {name} has the value {value!r}, a {type(value).__name__}: give a string, a number or a boolean"
    )


def merged_labels(current: Mapping[str, str], wanted: Mapping[str, Any], purge: bool) -> dict[str, str]:
    """Return the labels a node shall have: those given, and, unless *purge*, those it has besides."""
    given = {name: label_text(name, value) for name, value in wanted.items()}
    return given if purge else {**current, **given}


def spec_changes(spec: Mapping[str, Any], wanted: Wanted) -> tuple[dict[str, Any], list[str]]:
    """Return the node spec that *wanted* asks for, made from the current *spec*, and the actions that lead to it."""
    target = copy.deepcopy(dict(spec))
    actions = []
    if spec.get("Role") != wanted.role:
        target["Role"] = wanted.role
        actions.append("promote to manager" if wanted.role == "manager" else "demote to worker")
    current = dict(spec.get("Labels") or {})
    # What was drained for a stop, or for a restart that was interrupted, is given back.
    remembered = current.pop(REMEMBERED_LABEL, "keep")
    availability = remembered if wanted.availability == "keep" else wanted.availability
    if availability not in ("keep", spec.get("Availability")) or remembered != "keep":
        target["Availability"] = availability
        actions.append(f"set availability {availability}")
    labels = merged_labels(current, wanted.labels, wanted.purge_labels)
    for name in sorted(labels):
        if current.get(name) != labels[name]:
            actions.append(f"set label {name}={labels[name]}")
    actions += [f"remove label {name}" for name in sorted(current) if name not in labels]
    target["Labels"] = labels
    return target, actions


def node_addr(node: Mapping[str, Any]) -> str:
    """Return the address at which the swarm knows *node*."""
    addr = str(node.get("Status", {}).get("Addr") or "")
    if addr in ("", "0.0.0.0", "::"):  # noqa: S104 - what managers of older engines say of themselves
        addr = str(node.get("ManagerStatus", {}).get("Addr") or "").rpartition(":")[0].strip("[]")
    return addr


def hostname(node: Mapping[str, Any]) -> str:
    """Return a node's host name; its ID where it has not told one yet."""
    return str(node.get("Description", {}).get("Hostname") or node["ID"])


def host_of(node: Mapping[str, Any], hosts: Mapping[str, str]) -> str:
    """Return which of *hosts* (name → address in the swarm) a node is, by its name or its address; empty if none."""
    if hostname(node) in hosts:
        return hostname(node)
    return next((name for name, address in hosts.items() if address and node_addr(node) == address), "")


def ghosts(
    nodes: Sequence[Mapping[str, Any]], me: Membership, joined: bool
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return what a machine's earlier lives left in the swarm: (to be removed, down but not provably the same machine).

    A rebuilt machine joins under a new node ID and its old entry stays. That entry is this machine's when it has the
    same host name and the same address, which no other live machine can have. Another address proves it only for a
    node that joined just now under a host name of its own: cloned hosts that are all called ``debian`` must not
    remove each other while one of them is switched off.
    """
    namesakes = [
        node
        for node in nodes
        if node["ID"] != me.node_id and me.hostname and node.get("Description", {}).get("Hostname") == me.hostname
    ]
    same_place = [node for node in namesakes if me.addr and node_addr(node) == me.addr]
    elsewhere = [node for node in namesakes if node not in same_place]
    down = [node for node in elsewhere if node.get("Status", {}).get("State") == "down"]
    if joined and len(down) == len(elsewhere):
        return same_place + down, []
    return same_place, down


def keeps_quorum(managers: Sequence[Mapping[str, Any]], leaving: str) -> bool:
    """Say whether the *managers* (nodes) other than *leaving* still have a majority among themselves."""
    staying = [node for node in managers if node["ID"] != leaving]
    reachable = [node for node in staying if node.get("ManagerStatus", {}).get("Reachability") == "reachable"]
    return bool(staying) and len(reachable) > len(staying) // 2


def differ(one: str, other: str) -> bool:
    """Say whether both are IP addresses, and not the same one; names and interfaces cannot be compared from here."""
    try:
        return ipaddress.ip_address(one) != ipaddress.ip_address(other)
    except ValueError:
        return False


def may_create(seen: Sequence[Seen]) -> bool:
    """Say whether a new swarm would be the only one: every other manager of the inventory is known to be in none."""
    return all(manager.state == "inactive" for manager in seen)


def told(seen: Sequence[Seen]) -> str:
    """Return what the managers of the inventory were seen to be, in words."""
    words = []
    for manager in seen:
        state = {"active": "without a leader" if manager.control else "a worker of a swarm"}.get(
            manager.state, "in no swarm" if manager.state == "inactive" else manager.state
        )
        words.append(f"{manager.name} is {state}" + (f" ({manager.detail})" if manager.detail else ""))
    return "; ".join(words) or "the inventory names no other manager"


def contradiction(wanted: Wanted) -> str:
    """Return what is wrong with *wanted* itself, whatever the swarm looks like; empty if nothing is."""
    names = [manager["name"] for manager in wanted.managers]
    hosts = [manager["docker"]["docker_host"] for manager in wanted.managers]
    if len(set(names)) < len(names) or len(set(hosts)) < len(hosts):
        listed = ", ".join(f"{name} at {host}" for name, host in zip(names, hosts, strict=True))
        return (
            f"the managers name a manager, or an engine, twice: {listed}. "
            "Give every manager in the inventory a name and an address of its own."
        )
    if wanted.create and names and names[0] != wanted.name:
        return (
            f"{wanted.name} is to create the swarm, but the first of the managers is {names[0]}. "
            "Only the first manager creates the swarm: two creators would make two."
        )
    if wanted.role == "worker" and not names:
        return (
            f"the managers are none, so {wanted.name} has nobody to join. "
            "Put a host in the group managers of the inventory."
        )
    if wanted.role == "worker" and wanted.host in hosts:
        return (
            f"{wanted.name} has the engine of a manager ({wanted.host}). A node is one or the other: take it out of "
            "one of the groups managers and workers, or give it an address of its own."
        )
    # What they meet matters only to a swarm that is created.
    return "; ".join(problems_of(wanted.address_pools, wanted.address_pool_prefix, {}))


def advice(wanted: Wanted) -> list[str]:
    """Return warnings about the inventory's managers; the first of them says it, so that it is read once."""
    count = len(wanted.managers)
    if wanted.role == "manager" and count and count % 2 == 0 and wanted.managers[0]["name"] == wanted.name:
        return [
            f"the inventory has {count} managers: they tolerate the loss of {(count - 1) // 2}, as {count - 1} would. "
            f"Use an odd number, {count - 1} or {count + 1}."
        ]
    return []
