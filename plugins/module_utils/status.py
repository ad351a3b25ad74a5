# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a cluster is: judged from what engines, managers and published ports said, without asking them.

A problem makes it unhealthy; a warning is what may become one; a difference is what the inventory or the stack's
template asks for and the swarm has not, or has besides.

Facts of Docker Swarm that this rests on: a node's certificate, by which it proves itself to its swarm, is valid for
the swarm's NodeCertExpiry (90 days by default) and is renewed by the running node when a half to four fifths of that
are over. The certificate itself cannot be asked for over the API. A node's UpdatedAt is when its entry changed last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils import address_pools
from ansible_collections.apiary.swarm.plugins.module_utils.convergence import (
    Context,
    State,
    judge,
    parse_time,
)
from ansible_collections.apiary.swarm.plugins.module_utils.placement import lack, name_of
from ansible_collections.apiary.swarm.plugins.module_utils.promises import (
    PROMISES,
    Remark,
    Seen,
    absence,
    node_differences,
    service_differences,
    unready,
)
from ansible_collections.apiary.swarm.plugins.module_utils.report import stranger
from ansible_collections.apiary.swarm.plugins.module_utils.stack import update_state
from ansible_collections.apiary.swarm.plugins.module_utils.swarm import REMEMBERED_LABEL, hostname

Object = Mapping[str, Any]

#: a certificate with less time left is worth a warning; those that Apiary makes are renewed at 90 days by any site.yml
_SOON_DAYS = 30
#: clocks further apart make certificates and logs misleading
_CLOCK_SECONDS = 60
#: the least part of its validity that is left when a node renews its certificate
_LEAST_LEFT = 0.2
#: failures of tasks older than this are history
RECENT = timedelta(minutes=10)


@dataclass(frozen=True)
class Certificate:
    """Whose it is, and between which times it holds."""

    of: str
    begins: datetime
    ends: datetime


@dataclass(frozen=True)
class Machine:
    """What an engine said besides what promises are judged from."""

    version: str = ""
    api_version: str = ""
    #: how far its clock is ahead of this computer's
    clock_seconds: float | None = None


@dataclass(frozen=True)
class Port:
    """A published port, asked once through one node."""

    service: str
    port: int
    node: str
    address: str
    error: str = ""


@dataclass(frozen=True)
class Sight:
    """All that a status is made from."""

    name: str
    now: datetime
    seen: Seen
    machines: Mapping[str, Machine]
    #: all services and tasks of the swarm, of whichever stack
    services: Sequence[Object] = ()
    tasks: Sequence[Object] = ()
    #: ``GET /swarm`` without its tokens
    swarm: Object = field(default_factory=dict)
    manager: str = ""
    certificates: Sequence[Certificate] = ()
    ports: Sequence[Port] = ()

    @property
    def nodes(self) -> Sequence[Object]:
        return self.seen.swarm.nodes if self.seen.swarm else ()

    @property
    def hosts(self) -> dict[str, str]:
        """Each host's node, by the node's ID."""
        return {node["ID"]: host.name for host in self.seen.hosts if (node := self.seen.node_of(host))}

    @property
    def node_days(self) -> float:
        """For how many days a node's certificate is valid."""
        expiry = ((self.swarm.get("Spec") or {}).get("CAConfig") or {}).get("NodeCertExpiry") or 0
        return float(expiry) / 1e9 / 86400


# Judgement


def problems(sight: Sight) -> list[str]:
    """Return what makes the cluster unhealthy."""
    seen = sight.seen
    found = [f"{name}: {engine.error}" for name, engine in seen.engines.items() if engine.error]
    found += [text for text in PROMISES["quorum"][1](seen) if not isinstance(text, Remark)]
    if seen.swarm:
        for host in seen.hosts:
            node = seen.node_of(host)
            if node is None:
                found.append(f"{host.name}: {absence(seen.engines[host.name])}")
            elif why := unready(node):
                found.append(f"{host.name} {why}{_since(node, sight.now)}{_expired(node, sight)}")
    found += _unserved(sight)
    found += [f"the certificate of {own.of} ended on {own.ends:%Y-%m-%d}" for own in _ended(sight)]
    found += [
        f"port {port.port} of {port.service} does not answer through {port.node} ({port.address}): {port.error}"
        for port in sight.ports
        if port.error
    ]
    return found


def _since(node: Object, now: datetime) -> str:
    try:
        return f", for {span(now - parse_time(node['UpdatedAt']))} or longer"
    except (KeyError, ValueError):
        return ""


def _expired(node: Object, sight: Sight) -> str:
    """Say whether a node that is down can still prove itself to its swarm."""
    try:
        down = (sight.now - parse_time(node["UpdatedAt"])).total_seconds() / 86400
    except (KeyError, ValueError):
        return ""
    if not sight.node_days or down < sight.node_days * _LEAST_LEFT:
        return ""
    ended = "has ended" if down > sight.node_days else "may have ended"
    return (
        f"; its swarm certificate, valid for {sight.node_days:.0f} days, {ended}: if it does not come back when it is "
        "started, playbooks/remove_node.yml and then site.yml make it a new node"
    )


def _unserved(sight: Sight) -> Iterator[str]:
    services = {name_of(service): service for service in sight.services}
    for name, verdict in judge(services, sight.tasks, sight.nodes, recent(sight.now)).items():
        short = lack(services[name], sight.tasks, sight.nodes)
        if verdict.state is State.FAILED:
            error = next((task["Status"].get("Err", "") for task in verdict.failing), "")
            progress = verdict.progress.replace("since the deploy", "lately")
            yield f"{progress}{f': {error}' if error else ''}"
        elif short.missing and update_state(services[name]) != "updating":
            yield verdict.progress if verdict.reason or not short.reason else f"{verdict.progress} ({short.reason})"


def recent(now: datetime) -> Context:
    """Return what a verdict on services is given: their newest failures count."""
    return Context(now, since=now - RECENT, settle_seconds=0)


def _ended(sight: Sight) -> list[Certificate]:
    return [own for own in sight.certificates if own.ends <= sight.now]


def warnings(sight: Sight) -> list[str]:
    """Return what may become a problem."""
    found = [str(text) for text in PROMISES["quorum"][1](sight.seen) if isinstance(text, Remark)]
    for own in sight.certificates:
        left = own.ends - sight.now
        if timedelta() < left < timedelta(days=_SOON_DAYS):
            found.append(
                f"the certificate of {own.of} ends in {span(left)}: playbooks/site.yml renews what Apiary made"
            )
    for name, machine in sight.machines.items():
        if machine.clock_seconds is not None and abs(machine.clock_seconds) > _CLOCK_SECONDS:
            apart = span(timedelta(seconds=machine.clock_seconds))
            found.append(f"the clock of {name} is {apart} {'fast' if machine.clock_seconds > 0 else 'slow'}")
    for service in sight.services:
        if update_state(service) == "updating":
            found.append(f"{name_of(service)}: its update is under way")
    for node in sight.nodes:
        if REMEMBERED_LABEL in (node["Spec"].get("Labels") or {}):
            found.append(
                f"{hostname(node)} was drained to be stopped or restarted: playbooks/start.yml gives it its work back"
            )
    if sight.seen.swarm:
        used = {host.name: host.networks for host in sight.seen.hosts}
        found += address_pools.troubles(sight.seen.swarm.networks, used)
        found += address_pools.prospects(sight.seen.swarm.address_pools, used)
    return found


def differences(sight: Sight) -> list[str]:
    """Return in what the cluster differs from the inventory and the stack's template."""
    seen = sight.seen
    if not seen.swarm:
        return []
    found = []
    for host in seen.hosts:
        node = seen.node_of(host)
        for text in node_differences(host, node) if node else ():
            found.append(str(text) if isinstance(text, Remark) else f"{host.name} {text}")
    for node in seen.swarm.nodes:
        if node["ID"] not in sight.hosts:
            found.append(stranger(node))
    for name, asked in seen.asked.items():
        service = seen.swarm.services.get(name)
        if service is None:
            found.append(f"{name}: is not in the swarm; playbooks/stack.yml deploys it")
        else:
            found += [f"{name}: {text}" for text in service_differences(asked, service)]
    return found


def span(time: timedelta) -> str:
    """Return a span of time in one unit."""
    seconds = abs(time.total_seconds())
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def clean_swarm(swarm: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``GET /swarm`` without join tokens."""
    return {key: value for key, value in swarm.items() if key != "JoinTokens"}
