# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Apiary promises of a cluster: judged from what was asked for and what engines say, without asking them.

A promise is kept when nothing is found against it. What could not be looked at is a finding too: a promise that is
not proven is not kept. A remark is worth knowing and breaks nothing.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils import address_pools, compose
from ansible_collections.apiary.swarm.plugins.module_utils.convergence import (
    Context,
    State,
    eligible_nodes,
    is_ready,
    judge,
    parse_time,
)
from ansible_collections.apiary.swarm.plugins.module_utils.docker_command import from_one, unlocking
from ansible_collections.apiary.swarm.plugins.module_utils.probe import Hearing
from ansible_collections.apiary.swarm.plugins.module_utils.report import table
from ansible_collections.apiary.swarm.plugins.module_utils.stack import Record, spec_digest, update_state
from ansible_collections.apiary.swarm.plugins.module_utils.swarm import (
    PORT,
    REMEMBERED_LABEL,
    differ,
    hostname,
    label_text,
    node_addr,
    with_port,
)

Object = Mapping[str, Any]

NANO = 10**9
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class Host:
    """What the inventory asks of one host."""

    name: str
    role: str
    docker: Object
    address: str = ""
    entrypoint: str = ""
    labels: Object = field(default_factory=dict)
    availability: str = "keep"
    #: what it uses itself: addresses or networks, and what each is
    networks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Engine:
    """What the engine of a host said. Where it did not answer, ``error`` is all there is."""

    error: str = ""
    #: ``GET /info``
    info: Object = field(default_factory=dict)
    #: the running containers of the stack, inspected, by ID
    containers: Mapping[str, Object] = field(default_factory=dict)
    #: the answer to a request for the list of nodes; None where it was refused, as a worker does
    listed_nodes: int | None = None
    #: what became of a client without a certificate: refused, served, plain (no TLS at all), local (no TCP), or why
    #: that could not be found out
    stranger: str = "local"

    @property
    def membership(self) -> Object:
        return self.info.get("Swarm") or {}

    @property
    def node_id(self) -> str:
        return str(self.membership.get("NodeID") or "")


@dataclass(frozen=True)
class Swarm:
    """What a manager said of the swarm, and of the stack in it."""

    cluster_id: str
    now: datetime
    nodes: Sequence[Object] = ()
    #: by their names in the compose file
    services: Mapping[str, Object] = field(default_factory=dict)
    tasks: Sequence[Object] = ()
    record: Record | None = None
    #: those that it has on all nodes
    networks: Sequence[Object] = ()
    #: from which they get their addresses
    address_pools: Sequence[str] = ()


@dataclass(frozen=True)
class Seen:
    """All that the promises are judged from."""

    hosts: Sequence[Host]
    engines: Mapping[str, Engine]
    #: None where no manager answers for a swarm
    swarm: Swarm | None
    #: the compose file that is asked for
    document: Object
    hearings: Sequence[Hearing] = ()
    #: why nothing, or not everything, could be heard
    deaf: Sequence[str] = ()
    timeout_seconds: float = 60
    strict: bool = False
    why_no_swarm: str = "no manager of the inventory answers for a swarm"

    @property
    def asked(self) -> Mapping[str, Object]:
        services: Mapping[str, Object] = self.document.get("services") or {}
        return services

    def node_of(self, host: Host) -> Object | None:
        """Return the host's node: the one that its engine says it is or, where that is silent, its namesake."""
        nodes = self.swarm.nodes if self.swarm else ()
        engine = self.engines[host.name]
        if not engine.error:
            return next((node for node in nodes if node["ID"] == engine.node_id), None)
        namesakes = [node for node in nodes if hostname(node) == host.name]
        # An earlier life of the machine is down for good; what counts is the node that was there last.
        return max(namesakes, key=lambda node: str(node.get("CreatedAt", "")), default=None)

    def running(self, name: str) -> list[Object]:
        """Return the tasks of a service that run and shall run."""
        service = self.swarm.services[name] if self.swarm else {}
        return [
            task
            for task in (self.swarm.tasks if self.swarm else ())
            if task["ServiceID"] == service["ID"] and task["DesiredState"] == task["Status"]["State"] == "running"
        ]

    def containers(self, name: str) -> Iterator[tuple[str, Object | str]]:
        """Yield the running tasks of a service, in words, with their containers, or why one cannot be looked at."""
        hosts = {node["ID"]: host.name for host in self.hosts if (node := self.node_of(host))}
        for task in self.running(name):
            container = str((task["Status"].get("ContainerStatus") or {}).get("ContainerID", ""))
            task_name = f"{name}.{task['Slot']}" if task.get("Slot") else name
            host = hosts.get(task.get("NodeID", ""))
            if host is None:
                yield task_name, f"it runs on node {task.get('NodeID')}, which is no host of the inventory"
            elif self.engines[host].error:
                yield f"{task_name} on {host}", "its node's engine does not answer"
            else:
                missing = "the swarm says that it runs, its node's engine shows no such container"
                yield f"{task_name} on {host}", self.engines[host].containers.get(container, missing)


class Remark(str):
    """A finding that breaks no promise."""


@dataclass(frozen=True)
class Verdict:
    """A promise, and what was found."""

    name: str
    sentence: str
    findings: Sequence[str] = ()
    remarks: Sequence[str] = ()

    @property
    def kept(self) -> bool:
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kept": self.kept,
            "findings": list(self.findings),
            "remarks": list(self.remarks),
        }


Judge = Callable[[Seen], Iterator[str]]
SwarmJudge = Callable[[Seen, Swarm], Iterator[str]]

#: name → (sentence, judge); the order is the report's
PROMISES: dict[str, tuple[str, Judge]] = {}


def _promise(name: str, sentence: str) -> Callable[[Judge], Judge]:
    """Register a promise that can be judged from the engines alone."""

    def register(judge_it: Judge) -> Judge:
        PROMISES[name] = sentence, judge_it
        return judge_it

    return register


def _swarm_promise(name: str, sentence: str) -> Callable[[SwarmJudge], SwarmJudge]:
    """Register a promise that cannot be judged without a manager."""

    def register(judge_it: SwarmJudge) -> SwarmJudge:
        def judge_what_can_be_told(seen: Seen) -> Iterator[str]:
            if seen.swarm:
                yield from judge_it(seen, seen.swarm)
            else:
                yield _why_no_swarm(seen) if name == "quorum" else "cannot be told, as no manager answers for a swarm"

        PROMISES[name] = sentence, judge_what_can_be_told
        return judge_it

    return register


def _why_no_swarm(seen: Seen) -> str:
    """Return why no manager answers, with what is to be done where that is known."""
    for host in seen.hosts:
        if seen.engines[host.name].membership.get("LocalNodeState") == "locked":
            return unlocking(host.name, host.docker)
    for host in seen.hosts:
        place = seen.engines[host.name].membership
        if place.get("ControlAvailable"):
            return (
                f"{seen.why_no_swarm}. A manager answers for its swarm while most of its managers are there: start the "
                f"others (playbooks/start.yml); if they are lost for good, go on from {host.name} alone: "
                f"{from_one(host.docker, str(place.get('NodeAddr') or ''))}"
            )
    return seen.why_no_swarm


def verdicts(seen: Seen) -> list[Verdict]:
    """Return the verdict on every promise."""
    result = []
    for name, (sentence, judge_it) in PROMISES.items():
        found = list(judge_it(seen))
        findings = [text for text in found if not isinstance(text, Remark)]
        remarks = [str(text) for text in found if isinstance(text, Remark)]
        result.append(Verdict(name, sentence, findings, remarks))
    return result


# Machines


@_promise("engines", "The engine of every host of the inventory answers.")
def _engines(seen: Seen) -> Iterator[str]:
    for name, engine in seen.engines.items():
        if engine.error:
            yield f"{name}: {engine.error}"


@_promise("tls", "An engine's TCP port serves no client without a certificate.")
def _tls(seen: Seen) -> Iterator[str]:
    for host in seen.hosts:
        engine, address = seen.engines[host.name], host.docker.get("docker_host", "")
        if engine.error:
            yield f"{host.name}: cannot be told, as its engine does not answer"
        elif engine.stranger == "served":
            yield f"{host.name}: {address} serves a client that shows no certificate"
        elif engine.stranger == "plain":
            yield Remark(f"{host.name}: {address} has no TLS, as its inventory says: whoever reaches it is root there")
        elif engine.stranger not in ("refused", "local"):
            yield f"{host.name}: {engine.stranger}"


# The swarm


@_swarm_promise("quorum", "Every manager of the inventory is reachable, and they manage one swarm with one leader.")
def _quorum(seen: Seen, swarm: Swarm) -> Iterator[str]:
    managers = [node for node in swarm.nodes if node["Spec"].get("Role") == "manager"]
    unreachable = [node for node in managers if _manager(node).get("Reachability") != "reachable"]
    for node in unreachable:
        yield (
            f"{hostname(node)} is {_manager(node).get('Reachability') or 'no member of the managers yet'}: "
            f"{len(managers) - len(unreachable)} of {len(managers)} managers are reachable, and the swarm cannot "
            f"change with fewer than {len(managers) // 2 + 1}"
        )
    leaders = [hostname(node) for node in managers if _manager(node).get("Leader")]
    if len(leaders) != 1:
        yield f"the leaders are {', '.join(leaders)}" if leaders else "no manager leads"
    for host in seen.hosts:
        theirs = (seen.engines[host.name].membership.get("Cluster") or {}).get("ID")
        if theirs and theirs != swarm.cluster_id:
            yield f"{host.name} manages another swarm, {theirs}, not {swarm.cluster_id}"
    if len(managers) % 2 == 0 and managers:
        tolerated = (len(managers) - 1) // 2
        yield Remark(f"{len(managers)} managers tolerate the loss of {tolerated}, as {len(managers) - 1} would")


@_swarm_promise(
    "nodes",
    "Every host of the inventory is one node of the swarm: in its role, at its address, ready, with its availability "
    "and its labels.",
)
def _nodes(seen: Seen, _swarm: Swarm) -> Iterator[str]:
    owners: dict[str, str] = {}
    for host in seen.hosts:
        node = seen.node_of(host)
        if node is None:
            yield f"{host.name}: {absence(seen.engines[host.name])}"
            continue
        if node["ID"] in owners:
            yield f"{host.name}: its engine is the same node as that of {owners[node['ID']]}"
            continue
        owners[node["ID"]] = host.name
        if why := unready(node):
            yield f"{host.name} {why}"
        for difference in node_differences(host, node):
            yield difference if isinstance(difference, Remark) else f"{host.name} {difference}"


def absence(engine: Engine) -> str:
    """Return why a host is no node of the swarm, as far as its engine tells."""
    if engine.error:
        return "its engine does not answer, and the swarm knows no node of its name"
    state = engine.membership.get("LocalNodeState") or "inactive"
    if state == "inactive":
        return "it is in no swarm"
    if state == "locked":
        return "it waits for the swarm's unlock key"
    return f"it is in another swarm, or was removed from this one: its engine says {state} as node {engine.node_id}"


def unready(node: Object) -> str:
    """Return what a node is that is not ready; empty if it is."""
    status = node.get("Status", {})
    message = f" ({status['Message']})" if status.get("Message") else ""
    return "" if is_ready(node) else f"is {status.get('State', 'unknown')}, not ready{message}"


def node_differences(host: Host, node: Object) -> Iterator[str]:
    """Yield in what a node differs from what the inventory asks of it."""
    spec = node["Spec"]
    if spec.get("Role") != host.role:
        yield f"is a {spec.get('Role')}, not a {host.role}"
    if host.availability not in ("keep", spec.get("Availability")):
        yield f"has the availability {spec.get('Availability')}, not {host.availability}"
    elif host.availability == "keep" and spec.get("Availability") != "active":
        away = "; it is stopped, or its restart was interrupted: playbooks/start.yml gives it its work back"
        known = away if REMEMBERED_LABEL in (spec.get("Labels") or {}) else "; the inventory asks for none"
        yield Remark(f"{host.name} has the availability {spec.get('Availability')}{known}")
    if host.address and differ(host.address, node_addr(node)):
        yield f"has the address {node_addr(node)} in the swarm, not {host.address}"
    address, _, port = str(_manager(node).get("Addr") or "").rpartition(":")
    if address and (port != str(PORT) or differ(host.address, address.strip("[]"))):
        yield f"manages the swarm at {address}:{port}, not at {with_port(host.address or address)}"
    labels = spec.get("Labels") or {}
    for name, value in host.labels.items():
        wanted = label_text(name, value)
        if labels.get(name) != wanted:
            yield f"has the label {name}={labels[name]}, not {wanted}" if name in labels else f"lacks {name}={wanted}"


@_swarm_promise("strangers", "The swarm has no node that the inventory does not name.")
def _strangers(seen: Seen, swarm: Swarm) -> Iterator[str]:
    known = {node["ID"]: host.name for host in seen.hosts if (node := seen.node_of(host))}
    for node in swarm.nodes:
        if node["ID"] not in known:
            twin = f", besides the node that {hostname(node)} is now" if hostname(node) in known.values() else ""
            yield (
                f"{hostname(node)} ({node['ID']}), a {node['Spec'].get('Role')} at {node_addr(node) or 'no address'}, "
                f"{node.get('Status', {}).get('State', 'unknown')}{twin}"
            )


@_swarm_promise("workers", "A worker belongs to this very swarm, and does not list its nodes.")
def _workers(seen: Seen, swarm: Swarm) -> Iterator[str]:
    members = {node["ID"] for node in swarm.nodes}
    for host in seen.hosts:
        engine = seen.engines[host.name]
        if host.role != "worker":
            continue
        if engine.error:
            yield f"{host.name}: cannot be told, as its engine does not answer"
        elif engine.node_id not in members:
            yield f"{host.name}: its engine is node {engine.node_id or '(none)'}, which this swarm does not have"
        elif engine.membership.get("LocalNodeState") != "active":
            yield f"{host.name}: its engine says {engine.membership.get('LocalNodeState')}, not active"
        elif engine.listed_nodes is not None:
            yield f"{host.name} lists {engine.listed_nodes} nodes to whoever asks it"


@_swarm_promise("networks", "No network of the swarm meets an address, a route or a name server of a host.")
def _networks(seen: Seen, swarm: Swarm) -> Iterator[str]:
    used = {host.name: host.networks for host in seen.hosts}
    yield from address_pools.troubles(swarm.networks, used)
    yield from map(Remark, address_pools.prospects(swarm.address_pools, used))
    for host in seen.hosts:
        if not host.networks:
            silent = bool(seen.engines[host.name].error)
            text = f"{host.name}: cannot be told, as what addresses it uses itself is not known"
            yield text if silent else Remark(text)


def _manager(node: Object) -> Object:
    return node.get("ManagerStatus") or {}


# The stack


@_swarm_promise("services", "The swarm runs every service as the template asks: as many tasks, from its image.")
def _services(seen: Seen, swarm: Swarm) -> Iterator[str]:
    deployed = swarm.record.services if swarm.record else {}
    # what is asked for and missing is said once
    expected = {name: told for name, told in deployed.items() if name in swarm.services or name not in seen.asked}
    for name, asked in seen.asked.items():
        service = swarm.services.get(name)
        if service is None:
            yield f"{name}: is not in the swarm; playbooks/stack.yml deploys it"
            continue
        for difference in service_differences(asked, service):
            yield f"{name}: {difference}"
        if name in deployed and deployed[name] != spec_digest(service):
            yield f"{name}: was changed since it was deployed; playbooks/stack.yml deploys it again"
    for name in sorted(set(swarm.services) - set(seen.asked) - set(deployed)):
        yield Remark(f"{name}: is in the swarm as a service of the stack, and not in the template")
    context = Context(swarm.now, since=swarm.now, settle_seconds=0, deployed=expected)
    for verdict in judge(swarm.services, swarm.tasks, swarm.nodes, context).values():
        if verdict.state is not State.CONVERGED:
            yield verdict.progress + _unfinished(swarm.services.get(verdict.name))
    yield from _container_differences(seen, swarm)


def _unfinished(service: Object | None) -> str:
    states = {"updating": "; its update is under way", "rollback_started": "; it is being rolled back"}
    return states.get(update_state(service or {}), "")


def service_differences(asked: Object, service: Object) -> Iterator[str]:
    """Yield in what a service of the swarm differs from what the compose file asks for."""
    summary = compose.summary({"services": {"it": asked}})["it"]
    spec = service["Spec"]
    image = spec["TaskTemplate"]["ContainerSpec"]["Image"]
    if not same_image(summary["image"], image):
        yield f"has the image {image}, the template asks for {summary['image']}"
    mode = next((_MODES.get(kind, kind) for kind in spec["Mode"]), "replicated")
    if mode != summary["mode"]:
        yield f"is {mode}, the template asks for {summary['mode']}"
    elif mode == "replicated":
        replicas = (spec["Mode"]["Replicated"] or {}).get("Replicas", 1)
        if replicas != int(str(summary["replicas"])):
            yield f"has {replicas} replicas, the template asks for {summary['replicas']}"


_MODES = {
    "Replicated": "replicated",
    "Global": "global",
    "ReplicatedJob": "replicated-job",
    "GlobalJob": "global-job",
}


def _container_differences(seen: Seen, swarm: Swarm) -> Iterator[str]:
    """What the nodes' engines say of the containers: that they are there, and of which image."""
    for name, service in swarm.services.items():
        image = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
        contents = defaultdict(set)
        for where, container in seen.containers(name):
            if isinstance(container, str):
                yield f"{where}: {container}"
                continue
            if not same_image(image, container["Config"]["Image"]):
                yield f"{where}: its container is of the image {container['Config']['Image']}, not {image}"
            if container["State"].get("Paused"):
                yield f"{where}: its container is paused"
            contents[container["Image"]].add(where)
        if len(contents) > 1:
            which = "; ".join(f"{image_id[:19]}: {', '.join(sorted(tasks))}" for image_id, tasks in contents.items())
            yield Remark(f"{name}: {image} is not the same image on all nodes: {which}")


def same_image(asked: str, found: str) -> bool:
    """Say whether *found* is the image *asked* for; a digest counts where it was asked for."""
    name, _, digest = _full(asked).partition("@")
    found_name, _, found_digest = _full(found).partition("@")
    return name == found_name and digest in ("", found_digest)


def _full(image: str) -> str:
    name, at, digest = image.partition("@")
    name = name.removeprefix("docker.io/").removeprefix("library/")
    if ":" not in name.rpartition("/")[2]:
        name += ":latest"
    return name + at + digest


@_swarm_promise(
    "limits", "The containers have the limits that the template asks for, as their nodes' engines have set them."
)
def _limits(seen: Seen, swarm: Swarm) -> Iterator[str]:
    for name, asked in seen.asked.items():
        wanted = limits_of(asked)
        if not wanted or name not in swarm.services:
            continue  # a service that is not there is the finding of another promise
        for where, container in seen.containers(name):
            if isinstance(container, str):
                yield f"{where}: cannot be told: {container}"
                continue
            for key, value in wanted.items():
                if (found := container["HostConfig"].get(key) or 0) != value:
                    unit = _UNITS[key]
                    yield f"{where}: has {_amount(found, unit)}, the template asks for {_amount(value, unit)}"


#: unit and factor of what HostConfig holds
_UNITS = {"NanoCpus": ("CPUs", NANO), "Memory": ("MiB of memory", 1 << 20), "PidsLimit": ("processes", 1)}


def _amount(value: int, unit: tuple[str, int]) -> str:
    return f"{value / unit[1]:g} {unit[0]}" if value > 0 else f"no limit of {unit[0].rpartition(' of ')[2]}"


def limits_of(asked: Object) -> dict[str, int]:
    """Return the limits of a service of a compose file as an engine keeps them, in ``HostConfig``."""
    limits = ((asked.get("deploy") or {}).get("resources") or {}).get("limits") or {}
    found = {}
    if limits.get("cpus") is not None:
        found["NanoCpus"] = int(Decimal(str(limits["cpus"])) * NANO)
    if limits.get("memory") is not None:
        found["Memory"] = size_of(str(limits["memory"]))
    if limits.get("pids") is not None:
        found["PidsLimit"] = int(str(limits["pids"]))
    return found


def size_of(text: str) -> int:
    """Return the number of bytes of a size as Docker reads it: 50M and 50MiB are 50 · 2²⁰."""
    match = _SIZE.match(text)
    if not match:
        raise ValueError(f"{text!r} is no size")
    return int(Decimal(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))


@_swarm_promise("spread", "The tasks of a service are spread over the nodes as evenly as their numbers allow.")
def _spread(seen: Seen, swarm: Swarm) -> Iterator[str]:
    names = {node["ID"]: hostname(node) for node in swarm.nodes}
    for name, service in swarm.services.items():
        if "Replicated" not in service["Spec"]["Mode"] or _is_placed(service):
            continue  # the template places the tasks, so that even is not what was asked for
        nodes = [
            node
            for node in swarm.nodes
            if node["Spec"].get("Availability") == "active" and node["ID"] in eligible_nodes(service, [node])
        ]
        tasks = seen.running(name)
        counts = Counter({node["ID"]: 0 for node in nodes})
        counts.update(task["NodeID"] for task in tasks if task["NodeID"] in counts)
        if not counts or max(counts.values()) - min(counts.values()) <= 1:
            continue
        told = ", ".join(
            f"{count} on {names[node]}" for node, count in sorted(counts.items(), key=lambda c: names[c[0]])
        )
        fewest = [node for node in nodes if counts[node["ID"]] < max(counts.values()) - 1]
        excuse = "" if seen.strict else _excuse(tasks, swarm.tasks, fewest)
        if excuse:
            yield Remark(f"{name}: {told}; {excuse}. playbooks/rebalance.yml spreads them")
        else:
            yield f"{name}: {told}"


def _excuse(tasks: Sequence[Object], all_tasks: Iterable[Object], fewest: Sequence[Object]) -> str:
    """Return why swarm, which moves no task that runs, came to leave the nodes *fewest* with less than others."""
    newest = max(parse_time(task["CreatedAt"]) for task in tasks)
    if all(parse_time(node["UpdatedAt"]) > newest for node in fewest):
        return f"{', '.join(sorted(map(hostname, fewest)))} changed after the tasks were placed"
    running = {task["ID"] for task in tasks}
    slots = {(task["ServiceID"], task.get("Slot")) for task in tasks}
    if any((task["ServiceID"], task.get("Slot")) in slots and task["ID"] not in running for task in all_tasks):
        # Where an update starts the new before it stops the old, both count when a node is chosen.
        return "tasks were replaced one after another, by an update or after failures"
    return ""


def _is_placed(service: Object) -> bool:
    """Whether the template has a say in where tasks go, or the resources that they reserve do."""
    template = service["Spec"]["TaskTemplate"]
    placement = template.get("Placement") or {}
    return any(placement.get(key) for key in ("Constraints", "Preferences", "MaxReplicas")) or bool(
        (template.get("Resources") or {}).get("Reservations")
    )


@_swarm_promise("answers", "Every published port answers through every entrypoint, from every task behind it.")
def _answers(seen: Seen, _swarm: Swarm) -> Iterator[str]:
    yield from seen.deaf
    for hearing in seen.hearings:
        if not hearing.is_done:
            yield hearing.complaint(seen.timeout_seconds)
        elif hearing.is_vague:
            target = hearing.target
            kind = "the answers name no container" if hearing.is_http else "it does not speak HTTP"
            yield Remark(
                f"port {target.port} of {target.service} answers through {hearing.entrypoint.name}, but "
                f"{kind}: whether every task answers cannot be told"
            )
    heard = {(hearing.target.service, hearing.target.port) for hearing in seen.hearings}
    unserved = sorted({name for hearing in seen.hearings for name in hearing.target.unserved})
    if unserved:
        yield Remark(f"{', '.join(unserved)}: a drained node has no proxy, so published ports are not asked there")
    for port in compose.published_ports({"services": seen.asked}):
        if port.mode != "ingress" or (port.service, port.published) in heard:
            continue
        if port.protocol != "tcp":
            yield Remark(f"port {port.published}/{port.protocol} of {port.service} is not asked: only TCP is")
        elif not seen.deaf and _wants_tasks(seen.asked[port.service]):
            yield f"port {port.published} of {port.service}: the swarm does not publish it, or no task runs behind it"


def _wants_tasks(asked: Object) -> bool:
    return str((asked.get("deploy") or {}).get("replicas", 1)) != "0"


# In words


def summary(seen: Seen) -> str:
    """Return what was looked at, in one line."""
    roles = Counter(host.role for host in seen.hosts)
    tasks = sum(len(seen.running(name)) for name in seen.swarm.services) if seen.swarm else 0
    ports = {(hearing.target.service, hearing.target.port) for hearing in seen.hearings}
    entrypoints = {hearing.entrypoint for hearing in seen.hearings}
    requests = sum(hearing.requests for hearing in seen.hearings)
    return "Looked at " + ", ".join(
        [
            _count(roles["manager"], "manager"),
            _count(roles["worker"], "worker"),
            _count(len(seen.swarm.services) if seen.swarm else 0, "service"),
            _count(tasks, "running task"),
            f"{_count(len(ports), 'published port')} through {_count(len(entrypoints), 'entrypoint')} "
            f"({_count(requests, 'request')})",
        ]
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def told(name: str, seen: Seen, judged: Iterable[Verdict]) -> str:
    """Return the verdicts as a text for people."""
    judged = list(judged)
    kept = sum(verdict.kept for verdict in judged)
    lines = [f"Cluster {name}: {kept} of {len(judged)} promises kept", "", summary(seen), ""]
    lines += table([
        ("PROMISE", "KEPT", ""),
        *((verdict.name, "yes" if verdict.kept else "NO", verdict.sentence) for verdict in judged),
    ])  # fmt: skip
    broken = [f"- {verdict.name}: {text}" for verdict in judged for text in verdict.findings]
    remarks = [f"- {verdict.name}: {text}" for verdict in judged for text in verdict.remarks]
    for title, found in (("What was found:", broken), ("Worth knowing:", remarks)):
        lines += ["", title, *found] if found else []
    return "\n".join(lines)
