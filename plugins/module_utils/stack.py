# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a stack is to the swarm: its services, and the record of the last deploy that makes a rerun cheap.

The record is a swarm config. It carries the stack's label, so ``docker stack rm`` removes it with the rest.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.ingress import is_proxy, live_ports

NAMESPACE_LABEL = "com.docker.stack.namespace"
RECORD_LABEL = "apiary.stack.record"
#: Docker takes 500 kB a config; a compose text beyond this is recorded by its hash alone
_LARGEST_TEXT_BYTES = 400_000
_LONGEST_CONFIG_NAME = 64
_FAILED_UPDATES = ("paused", "rollback_started", "rollback_paused", "rollback_completed")

Service = Mapping[str, Any]


def digest(value: Any) -> str:
    """Return a short hash of anything JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def spec_digest(service: Service) -> str:
    """Return the digest of a service's specification; a forced update starts tasks anew and changes nothing of it."""
    spec = service["Spec"]
    template = {key: value for key, value in spec.get("TaskTemplate", {}).items() if key != "ForceUpdate"}
    return digest({**spec, "TaskTemplate": template})


def services_of(services: Iterable[Service], stack: str) -> dict[str, Service]:
    """Return the services of *stack* by their names in the compose file."""
    return {
        service["Spec"]["Name"].removeprefix(f"{stack}_"): service
        for service in services
        if (service["Spec"].get("Labels") or {}).get(NAMESPACE_LABEL) == stack
    }


def update_state(service: Service) -> str:
    """Return the state of the service's last update; empty if it had none since its specification last changed."""
    return (service.get("UpdateStatus") or {}).get("State", "")


@dataclass(frozen=True)
class Record:
    """What the last deploy asked for, and the hash of each service's specification as the swarm then had it."""

    document: str
    compose: str = ""
    services: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        compose = self.compose if len(self.compose.encode()) <= _LARGEST_TEXT_BYTES else ""
        content = {"document": self.document, "compose": compose, "services": dict(self.services)}
        return json.dumps(content, sort_keys=True).encode()

    def name(self, stack: str) -> str:
        suffix = "-" + hashlib.sha256(self.data).hexdigest()[:12]
        return f"apiary-stack-{stack}"[: _LONGEST_CONFIG_NAME - len(suffix)] + suffix


def record_labels(stack: str) -> dict[str, str]:
    return {NAMESPACE_LABEL: stack, RECORD_LABEL: stack}


def newest_record(configs: Iterable[Mapping[str, Any]]) -> Record | None:
    """Return the newest readable record among the swarm configs; two can be there after an interrupted run."""
    for config in sorted(configs, key=lambda config: config["CreatedAt"], reverse=True):
        try:
            content = json.loads(base64.b64decode(config["Spec"]["Data"]))
            return Record(content["document"], content["compose"], content["services"])
        except (KeyError, ValueError, TypeError):
            continue
    return None


def record_of(document: str, compose: str, services: Mapping[str, Service], wanted: Iterable[str]) -> Record:
    """Return the record of a deploy that has just ended.

    A service that was rolled back meanwhile is recorded without a hash, so that the next run deploys it again.
    """
    hashes = {
        name: spec_digest(services[name])
        for name in wanted
        if name in services and update_state(services[name]) not in _FAILED_UPDATES
    }
    return Record(document, compose, hashes)


def plan(
    record: Record | None,
    services: Mapping[str, Service],
    document: str,
    wanted: Mapping[str, Any],
    before: Mapping[str, Any],
    *,
    prune: bool,
) -> list[str]:
    """Return what a deploy would do, one action a service that is concerned; empty if the swarm runs this already.

    *wanted* and *before* hold the services' sections of the compose file that is to be deployed and of the last one.
    """
    actions = []
    for name in sorted(wanted):
        recorded = (record.services if record else {}).get(name)
        if name not in services:
            actions.append(f"create service {name}")
        elif recorded is None:
            actions.append(f"update service {name}: it was not deployed by Apiary, or its deploy failed")
        elif update_state(services[name]) in ("paused", "rollback_paused"):
            actions.append(f"resume service {name}: its update is paused")
        elif spec_digest(services[name]) != recorded:
            actions.append(f"update service {name}: it was changed since it was deployed")
        elif wanted[name] != before.get(name, wanted[name]):
            actions.append(f"update service {name}")
    actions += [f"remove service {name}" for name in unwanted(services, wanted, prune=prune)]
    if not actions and (record is None or record.document != document):
        actions.append("deploy the changed definition")
    return actions


def unwanted(services: Mapping[str, Service], wanted: Iterable[str], *, prune: bool) -> list[str]:
    """Return the services to remove: all not *wanted* or, without *prune*, only a proxy, as that holds ports."""
    return sorted(name for name in set(services) - set(wanted) if prune or is_proxy(services[name]))


def outcome_of(
    before: Mapping[str, Service], after: Mapping[str, Service], wanted: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Return for each service what really became of it: created, updated, unchanged or removed."""
    result = {}
    for name in sorted({*wanted, *before} & {*after, *before}):
        if name not in after:
            result[name] = {"id": before[name]["ID"], "version_index": 0, "state": "removed"}
            continue
        state = "unchanged"
        if name not in before or before[name]["ID"] != after[name]["ID"]:
            state = "created"
        elif spec_digest(before[name]) != spec_digest(after[name]):
            state = "updated"
        result[name] = {"id": after[name]["ID"], "version_index": after[name]["Version"]["Index"], "state": state}
    return result


def port_conflicts(services: Iterable[Service], stack: str, ports: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the wanted *ports* that a service outside *stack* publishes; two in host mode may live on two nodes."""
    taken: dict[tuple[int | None, str], tuple[str, str]] = {}
    for service in services:
        if (service["Spec"].get("Labels") or {}).get(NAMESPACE_LABEL) == stack:
            continue
        for other in live_ports(service["Spec"]["Name"], service):
            taken[other.published, other.protocol] = (other.service, other.mode)
    conflicts = []
    for port in ports:
        owner, mode = taken.get((port["published"], port["protocol"]), ("", ""))
        if owner and "ingress" in (mode, port["mode"]):
            conflicts.append(
                f"port {port['published']}/{port['protocol']} of service {port['service']} is already published by the "
                f"service {owner} outside this stack: give one of them another port, or remove {owner}"
            )
    return conflicts
