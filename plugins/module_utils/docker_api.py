# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Connections to a Docker Engine described by ``machine_docker``, the endpoint contract."""

from __future__ import annotations

import copy
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cryptography import x509

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.pki import is_strict_authority

try:
    import docker
    import docker.errors
    import requests.adapters
    import requests.exceptions

    HAS_DOCKER = True
except ImportError:  # reported by connect(): the plugin must load so that ansible-doc can read it
    HAS_DOCKER = False

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

NOT_REACHED = "Is the machine running? playbooks/machines.yml starts it again."

#: what TLS libraries say of a certificate, their own words last: of the engine's, or in an alert of this computer's
_REFUSED = re.compile(
    r"(?:CERTIFICATE_VERIFY_FAILED\] |\[SSL: \w*ALERT_\w*(?:CERTIFICATE|UNKNOWN_CA)\w*\] )([^\n]*?)(?: \(_ssl\.|$)"
)


class CertificateRefused(ApiaryError):
    """One end of a connection does not accept the other's certificate: to ask again would not help."""


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
    except docker.errors.APIError as error:
        answer = error.explanation or error
        if answered(error):
            raise ApiaryError(f"the engine at {host} refused a request: {answer}") from error
        raise ApiaryError(f"the connection to the engine at {host} failed: {answer}. {NOT_REACHED}") from error
    except docker.errors.DockerException as error:
        _raise_if_refused(host, error)
        raise ApiaryError(f"cannot reach the engine at {host}: {error}. {NOT_REACHED}") from error
    except (requests.exceptions.RequestException, OSError) as error:
        _raise_if_refused(host, error)
        raise ApiaryError(f"the connection to the engine at {host} failed: {error}. {NOT_REACHED}") from error
    finally:
        if client is not None:
            client.close()


def _raise_if_refused(host: str, error: Exception) -> None:
    if said := _REFUSED.search(str(error)):
        raise CertificateRefused(
            f"the engine at {host} and this computer do not accept each other's certificates: {said[1]}. Waiting would "
            "not help. playbooks/machines.yml renews certificates; where it does not help, see whether something else "
            "answers at that address, and whether this computer's clock is right"
        ) from error


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
