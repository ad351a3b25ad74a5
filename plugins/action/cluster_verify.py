# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove that a cluster is what was asked for; see the module of the same name for its documentation."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker.errors

from ansible_collections.apiary.swarm.plugins.action.stack_probe import hear
from ansible_collections.apiary.swarm.plugins.module_utils import compose, stack
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.convergence import parse_time
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.probe import Entrypoint, Hearing
from ansible_collections.apiary.swarm.plugins.module_utils.promises import Engine, Host, Seen, Swarm, told, verdicts
from ansible_collections.apiary.swarm.plugins.modules.cluster_verify import ARGUMENT_SPEC

_THREADS = 32
#: how long an engine may take for an answer; a manager takes up to 20 s to say that its swarm has no leader
_ENGINE_SECONDS = 30
_STRANGER_SECONDS = 10.0


class ActionModule(ApiaryAction):
    """Look at everything once, and judge."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        seen = look(params)
        judged = verdicts(seen)
        text = told(params["name"], seen, judged)
        promises = [verdict.as_dict() for verdict in judged]
        kept = all(verdict.kept for verdict in judged)
        if params["file"]:
            write_json(Path(params["file"]), {"cluster": params["name"], "kept": kept, "promises": promises})
        result: dict[str, Any] = {"changed": False, "promises": promises}
        return result | ({"cluster_report": text} if kept else {"failed": True, "msg": text})


def look(params: Mapping[str, Any]) -> Seen:
    """Ask all engines, a manager, and the published ports."""
    hosts = hosts_of(params)
    document = compose.parse(params["compose"])
    compose.name_images(document, params["images"])
    with ThreadPoolExecutor(_THREADS) as pool:
        engines = dict(
            zip(
                [host.name for host in hosts],
                pool.map(lambda host: _engine(host, params["stack"]), hosts),
                strict=True,
            )
        )
    what: dict[str, Any] = {
        "hosts": hosts,
        "engines": engines,
        "document": document,
        "timeout_seconds": params["timeout_seconds"],
        "strict": params["strict"],
    }
    reasons = []
    for host in hosts:
        if not engines[host.name].membership.get("ControlAvailable"):
            continue
        try:
            with connect(host.docker, _ENGINE_SECONDS) as api:
                swarm = _swarm(api, engines[host.name], params["stack"])
                hearings, deaf = _hear(api, params, hosts, engines)
            return Seen(**what, swarm=swarm, hearings=hearings, deaf=deaf)
        except ApiaryError as error:
            reasons.append(f"{host.name}: {error}")
    why = "no manager of the inventory answers for a swarm"
    return Seen(**what, swarm=None, why_no_swarm=f"{why} ({'; '.join(reasons)})" if reasons else why)


def hosts_of(params: Mapping[str, Any]) -> list[Host]:
    """Return what is asked of each host, managers first."""
    return [
        Host(
            name,
            role,
            params["endpoints"].get(name) or {},
            params["addresses"].get(name) or "",
            params["entrypoints"].get(name) or "",
            params["labels"].get(name) or {},
            params["availability"].get(name) or "keep",
            params["networks"].get(name) or {},
        )
        for role in ("manager", "worker")
        for name in params[f"{role}s"]
    ]


def _engine(host: Host, stack_name: str) -> Engine:
    if not host.docker.get("docker_host"):
        return Engine(error="it is not known how its engine is reached: see what was said of this host before")
    try:
        with connect(host.docker, _ENGINE_SECONDS) as api:
            info = api.info()
            listed = _listed_nodes(api) if host.role == "worker" else None
            running = api.containers(filters={"label": f"{stack.NAMESPACE_LABEL}={stack_name}"})
            containers = {entry["Id"]: inspected for entry in running if (inspected := _container(api, entry["Id"]))}
    except ApiaryError as error:
        return Engine(error=str(error))
    return Engine(info=info, containers=containers, listed_nodes=listed, stranger=stranger(host.docker))


def _listed_nodes(api: Any) -> int | None:
    try:
        return len(api.nodes())
    except docker.errors.APIError:
        return None


def _container(api: Any, container: str) -> Mapping[str, Any] | None:
    try:
        inspected: Mapping[str, Any] = api.inspect_container(container)
    except docker.errors.NotFound:  # it ended meanwhile
        return None
    return inspected


def stranger(endpoint: Mapping[str, Any]) -> str:
    """Return what becomes of a client without a certificate: one of the words of Engine.stranger, or why none is."""
    url = urlsplit(str(endpoint["docker_host"]))
    if url.scheme not in ("tcp", "http", "https"):
        return "local"
    if url.scheme == "http" or not (endpoint.get("tls") or endpoint.get("validate_certs")):
        return "plain"
    context = ssl.create_default_context(cafile=endpoint.get("ca_path"))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # not what is asked here, and docker-machine's would not pass
    if not endpoint.get("validate_certs"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        connection = socket.create_connection((url.hostname or "", url.port or 2376), _STRANGER_SECONDS)
    except OSError as error:
        return f"it could not be asked without a certificate: {error}"
    with connection:
        try:
            # With TLS 1.3 the handshake ends before the server has looked for a certificate: only an answer tells.
            with context.wrap_socket(connection, server_hostname=url.hostname) as secured:
                secured.sendall(b"GET /version HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
                return "served" if secured.recv(1) else "refused"
        except ssl.SSLCertVerificationError as error:
            return f"its certificate is not what the endpoint asks for: {error.verify_message}"
        except TimeoutError:
            return "it did not refuse a client without a certificate in time, nor serve it"
        except OSError:
            return "refused"


def _swarm(api: Any, engine: Engine, stack_name: str) -> Swarm:
    labels = {"label": [f"{stack.NAMESPACE_LABEL}={stack_name}"]}
    records = api.configs(filters={"label": [f"{stack.RECORD_LABEL}={stack_name}"]})
    return Swarm(
        cluster_id=engine.membership["Cluster"]["ID"],
        now=parse_time(engine.info["SystemTime"]),
        nodes=api.nodes(),
        services=stack.services_of(api.services(filters=labels), stack_name),
        tasks=api.tasks(filters=labels),
        record=stack.newest_record(records),
        networks=api.networks(filters={"scope": "swarm"}),
        address_pools=engine.membership["Cluster"].get("DefaultAddrPool") or (),
    )


def _hear(
    api: Any, params: Mapping[str, Any], hosts: Sequence[Host], engines: Mapping[str, Engine]
) -> tuple[list[Hearing], list[str]]:
    """Ask the published ports; where an engine is silent nobody waits for what it publishes."""
    deaf = [
        f"{host.name}: its entrypoint {host.entrypoint} was not asked, as its engine does not answer"
        if engines[host.name].error
        else f"{host.name}: its inventory names no entrypoint"
        for host in hosts
        if engines[host.name].error or not host.entrypoint
    ]
    # By the names that the swarm has: which nodes serve no port is told by those.
    entrypoints = [
        Entrypoint(engines[host.name].info.get("Name") or host.name, host.entrypoint)
        for host in hosts
        if host.entrypoint and not engines[host.name].error
    ]
    try:
        probe = {"name": params["stack"], "timeout_seconds": params["timeout_seconds"]}
        return hear(api, probe, entrypoints), deaf
    except ApiaryError as error:
        return [], [*deaf, str(error)]


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write what programs are to read."""
    try:
        path.write_text(json.dumps(document, indent=2) + "\n")
    except OSError as error:
        raise ApiaryError(f"cannot write {path}: {error.strerror}") from error
