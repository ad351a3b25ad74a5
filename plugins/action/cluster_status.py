# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say how a cluster is; see the module of the same name for its documentation."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509

from ansible_collections.apiary.swarm.plugins.action.cluster_verify import hosts_of, write_json
from ansible_collections.apiary.swarm.plugins.module_utils import compose, persons, stack
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.convergence import parse_time
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.probe import ask, targets_of
from ansible_collections.apiary.swarm.plugins.module_utils.promises import Engine, Host, Seen, Swarm
from ansible_collections.apiary.swarm.plugins.module_utils.status import Certificate, Machine, Port, Sight, clean_swarm
from ansible_collections.apiary.swarm.plugins.module_utils.status_report import document_of, told
from ansible_collections.apiary.swarm.plugins.modules.cluster_status import ARGUMENT_SPEC

_THREADS = 64


class ActionModule(ApiaryAction):
    """Ask all at once, judge, and tell."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        sight = look(params)
        document, text = document_of(sight), told(sight)
        if params["file"]:
            write_json(Path(params["file"]), document)
        if not document["healthy"]:
            return {"changed": False, "failed": True, "msg": text}  # not the document too: Ansible would print it
        return {"changed": False, "status": document, "cluster_report": text}


def look(params: Mapping[str, Any]) -> Sight:
    """Ask every engine, one manager, and every published port, each once."""
    hosts, seconds = hosts_of(params), params["timeout_seconds"]
    with ThreadPoolExecutor(_THREADS) as pool:
        answers = dict(
            zip([host.name for host in hosts], pool.map(lambda host: _engine(host, seconds), hosts), strict=True)
        )
        engines = {name: engine for name, (engine, _machine, _certificate) in answers.items()}
        swarms = list(pool.map(lambda host: _swarm(host, engines[host.name], seconds), hosts))
        found = next((swarm for swarm in swarms if isinstance(swarm, _Found)), None)
        sight = _sight(params, hosts, engines, found, [said for said in swarms if said and isinstance(said, str)])
        certificates = _certificates(hosts, answers, found)
        ports = list(pool.map(lambda port: _asked(port, seconds), _ports(sight, hosts)))
    machines = {name: machine for name, (_engine, machine, _certificate) in answers.items()}
    return Sight(**{**vars(sight), "machines": machines, "certificates": certificates, "ports": ports})


class _Found:
    """What a manager said."""

    def __init__(self, host: Host, engine: Engine, api: Any) -> None:
        self.host, self.engine = host, engine
        self.swarm = clean_swarm(api.inspect_swarm())
        self.nodes, self.services, self.tasks = api.nodes(), api.services(), api.tasks()
        self.networks = api.networks(filters={"scope": "swarm"})


def _engine(host: Host, seconds: int) -> tuple[Engine, Machine, Certificate | None]:
    certificate = _server_certificate(host, seconds)
    if not host.docker.get("docker_host"):
        return Engine(error="it is not known how its engine is reached"), Machine(), None
    try:
        with connect(host.docker, seconds) as api:
            asked = datetime.now(UTC)
            info = api.info()
            half = (datetime.now(UTC) - asked) / 2
            ahead = (parse_time(info["SystemTime"]) - asked - half).total_seconds()
            machine = Machine(info.get("ServerVersion", ""), api.version().get("ApiVersion", ""), round(ahead, 1) + 0.0)
            return Engine(info=info), machine, certificate
    except ApiaryError as error:
        return Engine(error=_in_short(str(error), host.docker["docker_host"])), Machine(), certificate


def _in_short(error: str, address: str) -> str:
    """Return what the system says of a connection, without what each library on the way has put around it."""
    match = re.search(r"\[Errno -?\d+\] ([^\"')\]]+)|(timed out)", error)
    return f"its engine at {address} does not answer: {match[1] or match[2]}" if match else error


def _swarm(host: Host, engine: Engine, seconds: int) -> _Found | str:
    if not engine.membership.get("ControlAvailable"):
        return ""
    try:
        with connect(host.docker, seconds) as api:
            return _Found(host, engine, api)
    except ApiaryError as error:
        return str(error)


def _sight(
    params: Mapping[str, Any],
    hosts: Sequence[Host],
    engines: Mapping[str, Engine],
    found: _Found | None,
    reasons: Sequence[str],
) -> Sight:
    swarm = None
    if found:
        services = stack.services_of(found.services, params["stack"])
        own = {service["ID"] for service in services.values()}
        tasks = [task for task in found.tasks if task["ServiceID"] in own]
        now = parse_time(found.engine.info["SystemTime"])
        pools = found.swarm.get("DefaultAddrPool") or ()
        swarm = Swarm(
            found.swarm["ID"], now, found.nodes, services, tasks, networks=found.networks, address_pools=pools
        )
    seen = Seen(
        hosts,
        engines,
        swarm,
        compose.parse(params["compose"]) if params["compose"] else {},
        why_no_swarm="; ".join(["no manager of the inventory answers for a swarm", *reasons]),
    )
    return Sight(
        params["name"],
        datetime.now(UTC),
        seen,
        {},
        found.services if found else (),
        found.tasks if found else (),
        found.swarm if found else {},
        found.host.name if found else "",
    )


def _ports(sight: Sight, hosts: Sequence[Host]) -> list[Port]:
    """Return the published ports to ask: through every node that is there, and takes them."""
    there = {name: node_id for node_id, name in sight.hosts.items()}
    ready = {node["ID"] for node in sight.nodes if node["Status"].get("State") == "ready"}
    services = {service["Spec"]["Name"]: service for service in sight.services}
    return [
        Port(target.service, target.port, host.name, host.entrypoint)
        for target in targets_of(services, sight.tasks, sight.nodes)
        for host in hosts
        if host.entrypoint and there.get(host.name) in ready and host.name not in target.unserved
    ]


def _asked(port: Port, seconds: int) -> Port:
    answer = ask(port.address, port.port, seconds)
    return Port(port.service, port.port, port.node, port.address, answer.error)


def _certificates(
    hosts: Sequence[Host], answers: Mapping[str, tuple[Engine, Machine, Certificate | None]], found: _Found | None
) -> list[Certificate]:
    """Return what proves engines and this computer to each other, and the swarm's own authority."""
    files = {}
    for host in hosts:
        for what, key in (("this computer", "client_cert"), ("the engines' authority", "ca_path")):
            if host.docker.get(key):
                files[str(host.docker[key])] = what
    # machines of docker-machine have copies of one certificate
    own = {certificate: None for path, what in files.items() if (certificate := _read(what, Path(path)))}
    directories = {directory: None for host in hosts if (directory := persons.cluster_directory(host.docker))}
    for directory in directories:
        for name, paths in persons.known(directory).items():
            own |= {certificate: None for path in paths if (certificate := _read(f"the person {name}", path))}
    servers = [certificate for _engine, _machine, certificate in answers.values() if certificate]
    root = (found.swarm.get("TLSInfo") or {}).get("TrustRoot") if found else None
    swarm = [_certificate("the swarm's authority", root.encode())] if root else []
    return [*own, *servers, *(certificate for certificate in swarm if certificate)]


def _read(what: str, path: Path) -> Certificate | None:
    try:
        return _certificate(what, path.read_bytes())
    except OSError:
        return None


def _certificate(of: str, content: bytes) -> Certificate | None:
    with suppress(ValueError):
        made = x509.load_pem_x509_certificate(content)
        return Certificate(of, made.not_valid_before_utc, made.not_valid_after_utc)
    return None


def _server_certificate(host: Host, seconds: int) -> Certificate | None:
    """Return the certificate that an engine shows, also one that has ended and would not be believed."""
    url = urlsplit(str(host.docker.get("docker_host") or ""))
    if url.scheme not in ("tcp", "https") or not (host.docker.get("tls") or host.docker.get("validate_certs")):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((url.hostname or "", url.port or 2376), seconds) as connection,
            context.wrap_socket(connection, server_hostname=url.hostname) as secured,
        ):
            shown = secured.getpeercert(binary_form=True)
    except OSError:
        return None
    return _certificate(host.name, ssl.DER_cert_to_PEM_cert(shown).encode()) if shown else None
