# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A cluster's status in words, and as JSON can hold it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.convergence import is_ready, judge, parse_time
from ansible_collections.apiary.swarm.plugins.module_utils.ingress import live_ports
from ansible_collections.apiary.swarm.plugins.module_utils.placement import name_of
from ansible_collections.apiary.swarm.plugins.module_utils.report import table
from ansible_collections.apiary.swarm.plugins.module_utils.stack import NAMESPACE_LABEL, update_state
from ansible_collections.apiary.swarm.plugins.module_utils.status import (
    RECENT,
    Machine,
    Sight,
    differences,
    problems,
    recent,
    span,
    warnings,
)
from ansible_collections.apiary.swarm.plugins.module_utils.swarm import hostname, node_addr

Object = Mapping[str, Any]

# For programs


def document_of(sight: Sight) -> dict[str, Any]:
    """Return the status as JSON can hold it."""
    found = problems(sight)
    return {
        "cluster": sight.name,
        "time": sight.now.isoformat(timespec="seconds"),
        "healthy": not found,
        "problems": found,
        "warnings": warnings(sight),
        "differences": differences(sight),
        "swarm": {
            "id": sight.seen.swarm.cluster_id if sight.seen.swarm else None,
            "asked": sight.manager or None,
            "managers": sum(1 for node in sight.nodes if node["Spec"].get("Role") == "manager"),
            "reachable_managers": sum(
                1 for node in sight.nodes if (node.get("ManagerStatus") or {}).get("Reachability") == "reachable"
            ),
            "node_certificate_days": round(sight.node_days) or None,
        },
        "nodes": [*(_node(sight, node) for node in sight.nodes), *_machines_outside(sight)],
        "services": [_service(sight, service) for service in sorted(sight.services, key=name_of)],
        "endpoints": [
            {
                "service": port.service,
                "port": port.port,
                "node": port.node,
                "url": f"http://{port.address}:{port.port}",
                "answers": not port.error,
                "error": port.error or None,
            }
            for port in sight.ports
        ],
        "certificates": [
            {
                "of": own.of,
                "begins": own.begins.isoformat(),
                "ends": own.ends.isoformat(),
                "days_left": (own.ends - sight.now).days,
            }
            for own in sight.certificates
        ],
    }


def _node(sight: Sight, node: Object) -> dict[str, Any]:
    host = sight.hosts.get(node["ID"], "")
    machine = sight.machines.get(host, Machine())
    engine = sight.seen.engines.get(host)
    entrypoint = next((own.entrypoint for own in sight.seen.hosts if own.name == host), "")
    described = node.get("Description") or {}
    return {
        "name": hostname(node),
        "host": host or None,
        "id": node["ID"],
        "role": node["Spec"].get("Role"),
        "leader": bool((node.get("ManagerStatus") or {}).get("Leader")),
        "reachability": (node.get("ManagerStatus") or {}).get("Reachability"),
        "state": node["Status"].get("State"),
        "availability": node["Spec"].get("Availability"),
        "labels": dict(node["Spec"].get("Labels") or {}),
        "address": node_addr(node) or None,
        "entrypoint": entrypoint or None,
        "engine_version": machine.version or (described.get("Engine") or {}).get("EngineVersion"),
        "api_version": machine.api_version or None,
        "clock_seconds": machine.clock_seconds,
        "engine_answers": bool(engine and not engine.error),
        "error": (engine.error if engine else "") or None,
        "tasks": sum(1 for task in sight.tasks if _runs_on(task, node)),
    }


def _machines_outside(sight: Sight) -> Iterator[dict[str, Any]]:
    """Yield what there is to say of hosts that are no nodes."""
    inside = set(sight.hosts.values())
    for host in sight.seen.hosts:
        if host.name not in inside:
            engine, machine = sight.seen.engines[host.name], sight.machines.get(host.name, Machine())
            yield {
                "name": host.name,
                "host": host.name,
                "id": None,
                "role": None,
                "leader": False,
                "reachability": None,
                "state": None,
                "availability": None,
                "labels": {},
                "address": host.address or None,
                "entrypoint": host.entrypoint or None,
                "engine_version": machine.version or None,
                "api_version": machine.api_version or None,
                "clock_seconds": machine.clock_seconds,
                "engine_answers": not engine.error,
                "error": engine.error or None,
                "tasks": 0,
            }


def _runs_on(task: Object, node: Object) -> bool:
    return bool(
        task.get("NodeID") == node["ID"]
        and task["DesiredState"] == task["Status"]["State"] == "running"
        and is_ready(node)
    )


def _service(sight: Sight, service: Object) -> dict[str, Any]:
    name = name_of(service)
    context = recent(sight.now)
    verdict = judge({name: service}, sight.tasks, sight.nodes, context)[name]
    names = {node["ID"]: hostname(node) for node in sight.nodes}
    return {
        "name": name,
        "stack": (service["Spec"].get("Labels") or {}).get(NAMESPACE_LABEL),
        "mode": next(iter(service["Spec"]["Mode"]), "Replicated").lower(),
        "image": service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"],
        "wanted": verdict.wanted,
        "running": _running(sight, service),
        "state": verdict.state.value,
        "update": update_state(service) or None,
        "created": service.get("CreatedAt"),
        "updated": service.get("UpdatedAt"),
        "ports": sorted(port.published for port in live_ports(name, service) if port.published),
        "tasks": [
            {
                "id": task["ID"],
                "slot": task.get("Slot"),
                "node": names.get(task.get("NodeID", "")),
                "state": task["Status"]["State"],
                "desired": task["DesiredState"],
                "since": task["Status"].get("Timestamp"),
                "error": task["Status"].get("Err") or None,
            }
            for task in sight.tasks
            if task["ServiceID"] == service["ID"]
            and (task["DesiredState"] != "shutdown" or _failed_lately(task, sight))
        ],
    }


def _failed_lately(task: Object, sight: Sight) -> bool:
    return task["Status"]["State"] in ("failed", "rejected") and parse_time(task["CreatedAt"]) > sight.now - RECENT


def _running(sight: Sight, service: Object) -> int:
    return sum(1 for node in sight.nodes for task in sight.tasks if _is_of(task, service) and _runs_on(task, node))


def _is_of(task: Object, service: Object) -> bool:
    return bool(task["ServiceID"] == service["ID"])


# For people


def told(sight: Sight) -> str:
    """Return the status as a text."""
    status = document_of(sight)
    count = len(status["problems"])
    health = "healthy" if status["healthy"] else f"NOT healthy: {count} problem{'' if count == 1 else 's'}"
    lines = [f"Cluster {sight.name} is {health}"]
    lines += ["", *table([
        ("NODE", "ROLE", "STATE", "TASKS", "ENGINE", "ADDRESS", "ENTRYPOINT"),
        *(_node_row(node) for node in sorted(status["nodes"], key=lambda node: node["name"])),
    ])]  # fmt: skip
    if status["services"]:
        lines += ["", *table([
            ("SERVICE", "RUNNING", "WHERE", "IMAGE", "UPDATED", "OPEN"),
            *(_service_row(sight, service) for service in status["services"]),
        ])]  # fmt: skip
    if sight.certificates:
        lines += ["", *table([
            ("CERTIFICATE", "MADE", "ENDS"),
            *(
                (own.of, f"{span(sight.now - own.begins)} ago", _ends(own.ends - sight.now))
                for own in sight.certificates
            ),
        ])]  # fmt: skip
        if sight.node_days:
            lines.append(
                f"  the nodes' own, for their swarm: valid for {sight.node_days:.0f} days, renewed while they run"
            )
    for title, key in (
        ("Problems:", "problems"),
        ("Worth knowing:", "warnings"),
        ("Different from the inventory:", "differences"),
    ):
        lines += ["", title, *(f"- {text}" for text in status[key])] if status[key] else []
    return "\n".join(lines)


def _node_row(node: Mapping[str, Any]) -> tuple[str, ...]:
    state = node["state"] or "no node"
    if node["availability"] not in ("active", None):
        state += f", {node['availability']}"
    if not node["engine_answers"] and node["host"]:
        state += ", engine silent"
    role = "leader" if node["leader"] else node["role"] or ""
    return (
        node["name"], role, state, str(node["tasks"]), node["engine_version"] or "", node["address"] or "",
        node["entrypoint"] or "",
    )  # fmt: skip


def _service_row(sight: Sight, service: Mapping[str, Any]) -> tuple[str, ...]:
    running = [task for task in service["tasks"] if task["state"] == task["desired"] == "running"]
    counts = Counter(str(task["node"]) for task in running)
    where = ", ".join(f"{node} {count}" if count > 1 else node for node, count in sorted(counts.items()))
    ports = [port for port in sight.ports if port.service == service["name"]]
    is_open = Counter(port.port for port in ports if not port.error)
    through = Counter(port.port for port in ports)
    doors = ", ".join(f"{port} through {is_open[port]} of {through[port]}" for port in sorted(through))
    updated = span(sight.now - parse_time(service["updated"])) + " ago" if service["updated"] else ""
    return (
        service["name"], f"{service['running']}/{service['wanted']}", where, service["image"].partition("@")[0],
        updated, doors,
    )  # fmt: skip


def _ends(left: timedelta) -> str:
    return f"in {span(left)}" if left > timedelta() else f"ended {span(-left)} ago"
