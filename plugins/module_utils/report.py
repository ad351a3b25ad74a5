# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a cluster looks like, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.ingress import is_proxied, live_ports
from ansible_collections.apiary.swarm.plugins.module_utils.swarm import host_of, hostname

#: port in a container → the scheme of a URL for who opens it, where that is not HTTP
_SCHEMES = {443: "https", 3306: "mysql", 5432: "postgresql", 5672: "amqp", 6379: "redis", 27017: "mongodb"}


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return *rows* as lines with aligned columns, indented."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return ["  " + "  ".join(row).rstrip() for row in padded]


def _node_row(node: Mapping[str, Any], entrypoint: str) -> tuple[str, ...]:
    manager = node.get("ManagerStatus")
    role = "leader" if manager and manager.get("Leader") else node["Spec"]["Role"]
    state = node["Status"]["State"]
    if node["Spec"]["Availability"] != "active":
        state += f", {node['Spec']['Availability']}"
    return hostname(node), role, state, node["Status"].get("Addr", ""), entrypoint


def _wanted(service: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> str:
    mode = service["Spec"]["Mode"]
    if "Replicated" in mode:
        return str(mode["Replicated"].get("Replicas", 1))
    if "Global" in mode:
        return str(sum(1 for node in nodes if node["Spec"]["Availability"] == "active"))
    return "job"


#: on a service whose ports are for the nodes, each on its own 127.0.0.1, and not for people
INSIDE_LABEL = "apiary.inside"


def _urls(service: Mapping[str, Any], places: Iterable[tuple[Mapping[str, Any], str]]) -> list[str]:
    """Return where the ports of a service are open; *places* are the nodes and their entrypoints."""
    if INSIDE_LABEL in (service["Spec"].get("Labels") or {}):
        return [f"127.0.0.1:{port.published} on each node" for port in live_ports(service["Spec"]["Name"], service)]
    # A drained node has no proxy; it does have the routing mesh.
    is_closed = is_proxied(service)
    return [
        f"{_SCHEMES.get(port.target, 'http')}://{entrypoint}:{port.published}"
        for port in live_ports(service["Spec"]["Name"], service)
        if port.protocol == "tcp"
        for node, entrypoint in places
        if entrypoint and node["Status"]["State"] == "ready"
        if not (is_closed and node["Spec"]["Availability"] == "drain")
    ]


def stranger(node: Mapping[str, Any]) -> str:
    """Return what to say of a node that the inventory does not name."""
    name, role, state = hostname(node), node["Spec"].get("Role"), node["Status"].get("State")
    removal = f"playbooks/remove_node.yml -e node={name} removes it"
    return f"{name} ({role}, {state}) is not in the inventory: {removal}"


def client_lines(endpoint: Mapping[str, Any]) -> list[str]:
    """Return the lines that point a Docker client (in sh) at *endpoint*, a ``machine_docker`` dict."""
    lines = [f"export DOCKER_HOST={endpoint['docker_host']}"]
    if endpoint.get("validate_certs") and endpoint.get("client_cert"):
        lines.append(f"export DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH={Path(endpoint['client_cert']).parent}")
    elif endpoint["docker_host"].startswith("tcp:"):  # any value of the first would have the client use TLS
        lines.append("unset DOCKER_TLS_VERIFY DOCKER_CERT_PATH  # no TLS, so 'docker-machine env' cannot work")
    return lines


def cluster_report(
    name: str,
    entrypoints: Mapping[str, str],
    endpoint: Mapping[str, Any],
    nodes: Sequence[Mapping[str, Any]],
    services: Sequence[Mapping[str, Any]],
    tasks: Iterable[Mapping[str, Any]],
    addresses: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Return the report on the cluster *name*; nodes, services and tasks are as the Engine's API lists them.

    *entrypoints* has all hosts of the inventory, *addresses* those that they have in the swarm, where they are known.
    *notes* is what else there is to know.
    """
    lines = [f"Cluster {name}", ""]
    hosts = {host: (addresses or {}).get(host, "") for host in entrypoints}
    places = [(node, entrypoints.get(host_of(node, hosts), "")) for node in sorted(nodes, key=hostname)]
    lines += table([("NODE", "ROLE", "STATE", "ADDRESS", "ENTRYPOINT"), *(_node_row(*place) for place in places)])
    if services:
        # A task that is being replaced or removed runs until it has ended, and is none of those that are wanted.
        alive = [task for task in tasks if task["Status"]["State"] == "running"]
        stopping = Counter(task["ServiceID"] for task in alive if task.get("DesiredState", "running") != "running")
        running = Counter(task["ServiceID"] for task in alive)
        running.subtract(stopping)
        ordered = sorted(services, key=lambda service: service["Spec"]["Name"])
        lines += ["", *table([
            ("SERVICE", "RUNNING", "IMAGE", "OPEN"),
            *(
                (
                    service["Spec"]["Name"],
                    f"{running[service['ID']]}/{_wanted(service, nodes)}"
                    + (f", {stopping[service['ID']]} stopping" if stopping[service["ID"]] else ""),
                    service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].partition("@")[0],
                    "  ".join(_urls(service, places)),
                )
                for service in ordered
            ),
        ])]  # fmt: skip
    unknown = [stranger(node) for node, _entrypoint in places if not host_of(node, hosts)]
    if unknown or notes:
        lines += ["", *unknown, *notes]
    return "\n".join([*lines, "", "To point a Docker client at it:", *(f"  {line}" for line in client_lines(endpoint))])
