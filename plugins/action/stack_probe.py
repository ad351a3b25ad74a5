# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask a stack's published ports through every entrypoint; see the module of the same name for its documentation."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import stack
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import change_service, connect, persistently
from ansible_collections.apiary.swarm.plugins.module_utils.docker_command import docker_command
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.ingress import SERVICE
from ansible_collections.apiary.swarm.plugins.module_utils.probe import (
    Entrypoint,
    Hearing,
    Target,
    ask_until_heard,
    compare,
    targets_of,
)
from ansible_collections.apiary.swarm.plugins.modules.stack_probe import ARGUMENT_SPEC

#: the tasks are read again after so long: one that was asked for may have been replaced meanwhile
_ROUND_SECONDS = 3.0
_THREADS = 16
#: a forced update of many slow tasks, one batch after another
_UPDATE_SECONDS = 900.0


class ActionModule(ApiaryAction):
    """Ask until every task has been heard through every entrypoint."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"changed": False, "skipped": True, "msg": "nothing is asked in check mode"}
        if not params["entrypoints"]:
            raise ApiaryError(
                "stack_probe was given no entrypoints to ask at: set stack_entrypoints, or stack_probe: false"
            )
        entrypoints = [Entrypoint(**entry) for entry in params["entrypoints"]]
        with connect(params["docker"]) as api:
            if params["missing_ok"] and not _services(api, params["name"]):
                return {"changed": False, "repaired": [], "ports": []}
            hearings = hear(api, params, entrypoints)
            # A server that answers with an error is reached: what it needs is not a new mesh.
            silent = sorted(
                {
                    hearing.target.service
                    for hearing in hearings
                    if params["repair"] and not hearing.is_done and not hearing.last_error.startswith("HTTP status")
                }
            )
            if silent:
                Display().display(
                    f"  not every task of {', '.join(silent)} is reached through every node: starting its tasks anew, "
                    "as docker service update --force does"
                )
                start_anew(api, params["name"], silent)
                hearings = hear(api, params, entrypoints)
        if not all(hearing.is_done for hearing in hearings):
            raise _failure(params, hearings)
        for hearing in hearings:
            if hearing.is_vague:
                kind = "names no container" if hearing.is_http else "accepts connections, does not speak HTTP"
                target = hearing.target
                Display().display(
                    f"  port {target.port} of {target.service} answers through {hearing.entrypoint.name} but "
                    f"{kind}: whether every task answers cannot be told"
                )
        return {"changed": bool(silent), "repaired": silent, "ports": [hearing.as_dict() for hearing in hearings]}


def hear(api: Any, params: Mapping[str, Any], entrypoints: Iterable[Entrypoint]) -> list[Hearing]:
    """Ask until all have been heard or the time is up."""
    hearings: dict[tuple[str, int, Entrypoint], Hearing] = {}
    deadline = time.monotonic() + params["timeout_seconds"]
    with ThreadPoolExecutor(_THREADS) as pool:
        while True:
            targets = persistently(lambda: _targets(api, params["name"]), deadline - time.monotonic())
            hearings = _continued(hearings, targets, entrypoints)
            until = min(deadline, time.monotonic() + _ROUND_SECONDS)
            list(pool.map(lambda hearing: ask_until_heard(hearing, until, deadline), hearings.values()))  # noqa: B023
            compare(list(hearings.values()))
            if all(hearing.is_done for hearing in hearings.values()) or time.monotonic() >= deadline:
                return list(hearings.values())


def start_anew(api: Any, name: str, short_names: Iterable[str]) -> None:
    """Force an update of services, which enters their tasks into mesh and DNS anew, and wait until it is over."""
    for short_name in short_names:
        service = f"{name}_{short_name}"
        change_service(api, service, _forced)
        deadline = time.monotonic() + _UPDATE_SECONDS
        while True:
            found = persistently(partial(api.inspect_service, service), deadline - time.monotonic())
            if (state := stack.update_state(found)) not in ("", "updating") or time.monotonic() >= deadline:
                break
            time.sleep(1)
        if state != "completed":
            raise ApiaryError(
                f"the tasks of {service} could not be started anew: its update is {state or 'not begun'}. "
                f"'docker service ps {service}' shows why"
            )


def _forced(spec: dict[str, Any]) -> None:
    spec["TaskTemplate"]["ForceUpdate"] = spec["TaskTemplate"].get("ForceUpdate", 0) + 1


def _targets(api: Any, name: str) -> list[Target]:
    services = _services(api, name)
    if not services:
        raise ApiaryError(f"there is no stack {name} in the swarm: deploy it with playbooks/stack.yml")
    return targets_of(services, api.tasks(filters=_filters(name)), api.nodes())


def _services(api: Any, name: str) -> dict[str, Mapping[str, Any]]:
    return stack.services_of(api.services(filters=_filters(name)), name)


def _filters(name: str) -> dict[str, list[str]]:
    return {"label": [f"{stack.NAMESPACE_LABEL}={name}"]}


def _continued(
    hearings: dict[tuple[str, int, Entrypoint], Hearing], targets: Iterable[Target], entrypoints: Iterable[Entrypoint]
) -> dict[tuple[str, int, Entrypoint], Hearing]:
    """Return the hearings of *targets* with what was heard before, of tasks that are still there."""
    continued = {}
    for target in targets:
        for entrypoint in entrypoints:
            if entrypoint.name in target.unserved:
                continue
            key = (target.service, target.port, entrypoint)
            hearing = hearings.get(key) or Hearing(target, entrypoint)
            hearing.target = target
            continued[key] = hearing
    return continued


def _failure(params: Mapping[str, Any], hearings: Iterable[Hearing]) -> ApiaryError:
    name, timeout_seconds = params["name"], params["timeout_seconds"]

    def command(*arguments: str) -> str:
        return docker_command(params["docker"], "service", *arguments)

    def forced(services: Iterable[str]) -> str:
        return "; ".join(command("update", "--force", f"{name}_{service}") for service in services)

    lines = [f"stack {name} runs, but not all of it answers:"]
    silent = [hearing for hearing in hearings if not hearing.is_done]
    lines += [f"- {hearing.complaint(timeout_seconds)}" for hearing in silent]
    meshed = sorted({hearing.target.service for hearing in silent if not hearing.target.is_proxied})
    proxied = sorted({hearing.target.service for hearing in silent if hearing.target.is_proxied})
    if meshed:
        lines.append(
            f"If it does not come by itself, the routing mesh may have lost tasks; this builds it anew: "
            f"{forced(meshed)}"
        )
    if proxied:
        lines.append(
            f"A proxy publishes these ports: '{command('ps', f'{name}_{SERVICE}')}' shows whether every node runs it, "
            f"'{command('logs', f'{name}_{SERVICE}')}' which tasks it found. Where it has not found all of them, this "
            f"enters them into the swarm's DNS anew: {forced(proxied)}"
        )
    return ApiaryError("\n".join(lines))
