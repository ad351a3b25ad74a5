# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Connections to a Docker Engine described by ``machine_docker``, the endpoint contract."""

from __future__ import annotations

import copy
import errno
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509

from ansible_collections.apiary.swarm.plugins.module_utils.errors import (
    ApiaryError,
    PassingError,
    is_own,
    own_error,
)
from ansible_collections.apiary.swarm.plugins.module_utils.pki import is_strict_authority

try:
    import docker
    import docker.errors
    import requests.adapters
    import requests.exceptions

    HAS_DOCKER = True
    #: what a request can end in; the errors of requests, and the SDK's for answers of the engine, are OSErrors too
    FAILURES: tuple[type[Exception], ...] = (OSError, docker.errors.DockerException)
except ImportError:  # reported by connect(): the plugin must load so that ansible-doc can read it
    HAS_DOCKER = False
    FAILURES = (OSError,)

if HAS_DOCKER:

    class Client(docker.APIClient):
        """The SDK's client, deaf to proxies and CA bundles of the environment: an endpoint says all there is to say.

        With REQUESTS_CA_BUNDLE set, requests would check an engine against that, not against the cluster's authority.
        """

        trust_env = property(lambda self: False, lambda self, value: None)

    class _Unstrict(requests.adapters.HTTPAdapter):
        """Checks certificates as all Pythons before 3.13 did: whose they are, for which address, and until when."""

        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    class _UnstrictTLS(docker.tls.TLSConfig):
        """For an authority that strict checks refuse: docker-machine's, and one of ours that was not renewed yet."""

        def configure_client(self, client: Any) -> None:
            super().configure_client(client)
            client.mount("https://", _Unstrict())


#: argument spec of the option ``docker``: a ``machine_docker`` dict (see design: the endpoint contract)
ENDPOINT_SPEC: dict[str, Any] = {
    "docker_host": {"type": "str", "required": True},
    "tls": {"type": "bool", "default": False},
    "validate_certs": {"type": "bool", "default": False},
    "ca_path": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path"},
}

#: the same for several nodes: each one's name in messages and results, and its endpoint
NODES_SPEC: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "required": True,
    "options": {
        "name": {"type": "str", "required": True},
        "docker": {"type": "dict", "required": True, "options": ENDPOINT_SPEC},
    },
}

Node = Mapping[str, Any]
Answer = TypeVar("Answer")

NOT_REACHED = "Is the machine running? playbooks/machines.yml starts it again."

#: what TLS libraries say of a certificate, their own words last: of the engine's, or in an alert of this computer's
_REFUSED = re.compile(
    r"(?:CERTIFICATE_VERIFY_FAILED\] |\[SSL: \w*ALERT_\w*(?:CERTIFICATE|UNKNOWN_CA)\w*\] )([^\n]*?)(?: \(_ssl\.|$)"
)


#: what an engine answers while it is overloaded, its managers choose a leader, or it has just started
_PASSING = re.compile(
    r"DeadlineExceeded|deadline exceeded|code = Unavailable|does not have a leader|i/o timeout|TLS handshake timeout|"
    r"connection (refused|reset)|transport is closing"
)
_LOCKED = "Swarm is encrypted and needs to be unlocked"
#: numbers of a connection's errors, where they come without a library's words around them
_NETWORK = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.ENOTCONN}
#: of an engine's socket, they tell of the socket, not of a file of this computer's
_OF_SOCKETS = {errno.ENOENT, errno.EACCES, errno.EPERM}
_RETRY_SECONDS = 1.0


class CertificateRefused(ApiaryError):
    """One end of a connection does not accept the other's certificate: to ask again would not help."""


class Refused(ApiaryError):
    """An engine answered a request with an error; ``status`` is its HTTP status."""

    def __init__(self, message: str, status: int, answer: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.may_pass = status >= HTTPStatus.INTERNAL_SERVER_ERROR and bool(_PASSING.search(answer or message))
        self.is_locked = _LOCKED in (answer or message)


#: how often an update is tried again when somebody else wrote what it changes in between, and what the swarm says then
UPDATE_TRIES = 5
OUTDATED = "out of sequence"
_UPDATE_PAUSE_SECONDS = 0.2

#: engines at work at once: what they do takes their time, not the controller's
_THREADS = 16


def tls_config(endpoint: Mapping[str, Any]) -> Any:
    """Return the TLS settings of *endpoint* for the Docker SDK, or False for a plain one.

    A missing key or certificate raises ApiaryError and names the file.
    """
    if not endpoint.get("tls") and not endpoint.get("validate_certs"):
        return False
    cert = (endpoint["client_cert"], endpoint["client_key"]) if endpoint.get("client_cert") else None
    try:
        return (docker.tls.TLSConfig if _can_be_strict(endpoint.get("ca_path")) else _UnstrictTLS)(
            client_cert=cert, ca_cert=endpoint.get("ca_path"), verify=bool(endpoint.get("validate_certs"))
        )
    except docker.errors.TLSParameterError as error:
        raise ApiaryError(
            f"cannot use the TLS files of {endpoint['docker_host']} "
            f"({endpoint.get('ca_path')}, {endpoint.get('client_cert')}, {endpoint.get('client_key')}): {error}. "
            "Run playbooks/machines.yml, which makes them again."
        ) from error


def _can_be_strict(authority: str | None) -> bool:
    try:
        return not authority or is_strict_authority(x509.load_pem_x509_certificate(Path(authority).read_bytes()))
    except (OSError, ValueError):  # whoever needs it will say so
        return True


@contextmanager
def connect(endpoint: Mapping[str, Any], timeout_seconds: int = 60) -> Iterator[Any]:
    """Yield a docker.APIClient for *endpoint*; every failure to reach it or to be served becomes an ApiaryError.

    The API version is negotiated, so engines from 19.03 (API 1.40) on can be used.
    """
    if not HAS_DOCKER:
        raise ApiaryError("the Docker SDK for Python is missing on the controller: 'make setup' installs it")
    host = endpoint["docker_host"]
    client = None
    try:
        client = Client(
            base_url=host, tls=tls_config(endpoint), version="auto", timeout=timeout_seconds, use_ssh_client=True
        )
        yield client
    except FAILURES as error:
        raise explained(error, host) from error
    finally:
        if client is not None:
            client.close()


def explained(error: Exception, host: str, who: str = "", what: str = "") -> ApiaryError:
    """Return in words what a request ended in: the engine's answer, a connection that broke, this computer's failure.

    *who* is the engine and *what* it was asked to do, where that is known. A cause is named only where the error tells.
    """
    engine = f"{who} ({host})" if who else f"the engine at {host}"
    answer = str(getattr(error, "explanation", None) or error)
    if status := answered(error):
        refused = f"{engine} would not {what}" if what else f"{engine} refused a request"
        return Refused(f"{refused}: {answer}", status, answer)
    if said := _REFUSED.search(str(error)):
        return CertificateRefused(
            f"{engine} and this computer do not accept each other's certificates: {said[1]}. Waiting would "
            "not help. playbooks/machines.yml renews certificates; where it does not help, see whether something else "
            "answers at that address, and whether this computer's clock is right"
        )
    number = _number(error)
    is_bare = not isinstance(error, (requests.exceptions.RequestException, docker.errors.DockerException))
    if is_bare and isinstance(error, OSError) and not _is_of_connection(error):
        return ApiaryError(own_error(error))
    if host.startswith("unix:") and number in _OF_SOCKETS - {errno.ENOENT}:
        return ApiaryError(
            f"this user may not use the socket of {engine}: {answer}. Join the group that may (ls -l "
            f"{host.removeprefix('unix://')} names it; then log in anew), or run as a user who may"
        )
    if is_own(number) and not (host.startswith("unix:") and number in _OF_SOCKETS):
        return ApiaryError(f"{own_error(OSError(number, answer), number)} [{engine} was not asked]")
    broken = f"the connection to {engine} " + (f"broke when asking it to {what}" if what else "failed")
    if isinstance(error, docker.errors.DockerException) and not isinstance(error, requests.exceptions.RequestException):
        if number is None and not isinstance(error.__cause__, requests.exceptions.RequestException):
            return ApiaryError(f"{engine} cannot be used: {answer}")  # its version, or a wrong call of ours
        broken = f"cannot reach {engine}"
    return PassingError(f"{broken}: {answer}. {NOT_REACHED}")


def _number(error: Exception) -> int | None:
    """Return the system's number of what lies at the bottom of an error that libraries have wrapped."""
    inside: list[BaseException] = [error]
    for layer in inside:
        if isinstance(layer, OSError) and layer.errno is not None:
            return layer.errno
        wrapped = (*layer.args, getattr(layer, "reason", None), layer.__cause__)
        inside += [one for one in wrapped if isinstance(one, BaseException) and one not in inside]
    return None


def _is_of_connection(error: Exception) -> bool:
    """Say whether an error that no library has wrapped is a socket's, not a file's."""
    if isinstance(error, (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError)):
        return True
    return isinstance(error, OSError) and error.errno in _NETWORK


def may_pass(error: Exception) -> bool:
    """Say whether an error of a request, ours or a library's, may pass by itself."""
    return error.may_pass if isinstance(error, ApiaryError) else explained(error, "").may_pass


class Clock:
    """Time, replaced in tests."""

    now = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


def persistently(ask: Callable[[], Answer], seconds: float, clock: Any = Clock) -> Answer:
    """Return what *ask* answers; what may pass is asked again, until it has gone on for *seconds*."""
    began = clock.now()
    while True:
        try:
            return ask()
        except Exception as error:
            if not isinstance(error, (ApiaryError, *FAILURES)) or not may_pass(error) or clock.now() - began >= seconds:
                raise
        clock.sleep(_RETRY_SECONDS)


def answered(error: Exception) -> int | None:
    """Return the HTTP status of an engine's answer; None where the connection broke, or a relay told what SSH said."""
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return None if status == HTTPStatus.BAD_GATEWAY else status


def change_service(api: Any, service: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Have *change* edit the spec of a service, an ID or a name; where it edits nothing, nothing is sent.

    The spec is written whole, as the SDK's own call drops what it does not know; and from its newest version again
    when somebody else wrote it in between, as the swarm does itself at the end of an update.
    """

    def write(found: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
        url = api._url("/services/{0}/update", found["ID"])
        api._raise_for_status(api._post_json(url, data=spec, params={"version": found["Version"]["Index"]}))

    _change(lambda: api.inspect_service(service), change, write)


def change_node(api: Any, node_id: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Have *change* edit the spec of a node, as change_service does that of a service."""

    def write(found: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
        api.update_node(found["ID"], found["Version"]["Index"], spec)

    _change(lambda: api.inspect_node(node_id), change, write)


def _change(
    read: Callable[[], Mapping[str, Any]],
    change: Callable[[dict[str, Any]], object],
    write: Callable[[Mapping[str, Any], Mapping[str, Any]], None],
) -> None:
    for tries_left in reversed(range(UPDATE_TRIES)):
        found = read()
        spec = copy.deepcopy(dict(found["Spec"]))
        change(spec)
        if spec == found["Spec"]:
            return
        try:
            write(found, spec)
            return
        except docker.errors.APIError as error:
            if OUTDATED not in str(error.explanation or error) or not tries_left:
                raise
        time.sleep(_UPDATE_PAUSE_SECONDS)


def scale(api: Any, service: str, replicas: int) -> None:
    """Have a replicated service, an ID or a name, run so many tasks."""
    change_service(api, service, lambda spec: spec.update(Mode={"Replicated": {"Replicas": replicas}}))


def on_all(nodes: Sequence[Node], work: Callable[[Node], Any]) -> dict[str, Any]:
    """Do *work* with all nodes at once, and return what it gave, by name; ApiaryError with all that went wrong."""
    with ThreadPoolExecutor(_THREADS) as pool:
        futures = {node["name"]: pool.submit(work, node) for node in nodes}
    errors = [f"{name}: {error}" for name, future in futures.items() if (error := future.exception())]
    for future in futures.values():
        if (error := future.exception()) and not isinstance(error, ApiaryError):
            raise error
    if errors:
        raise ApiaryError("\n".join(errors))
    return {name: future.result() for name, future in futures.items()}
