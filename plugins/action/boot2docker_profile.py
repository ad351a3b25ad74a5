# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Patch the profile of a boot2docker guest; see the module of the same name for its documentation."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import boot2docker
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.boot2docker import Guest
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import CertificateRefused, connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.modules.boot2docker_profile import ARGUMENT_SPEC

_POLL_SECONDS = 0.5
#: docker-machine's start and restart wait for it
_NEEDED_PORT = 2376


class ActionModule(ApiaryAction):
    """Have the engine listen as wanted, or as before where it does not come up so."""

    argument_spec = ARGUMENT_SPEC
    #: replaced in tests
    make_guest: Callable[..., Guest] = Guest

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        listen, ports, tls = params["listen"] or params["address"], params["ports"], params["tls"]
        if _NEEDED_PORT not in ports:
            raise ApiaryError(
                f"boot2docker_profile_ports is {ports}, without {_NEEDED_PORT}: docker-machine waits for that port at "
                "each start of the machine, and fails without it. Add it"
            )
        guest = type(self).make_guest(params["name"], params["address"], Path(params["directory"]), params["ssh_user"])
        sight = guest.look()
        wanted = boot2docker.patched_profile(sight.profile, listen, ports, tls=tls)
        actions = boot2docker.deviations(sight, listen, ports, tls=tls)
        if params["state"] == "observed":
            actions = []
        # Without TLS, the tutorial's port: on 2376 everyone expects TLS.
        endpoint = _endpoint(params, _NEEDED_PORT if tls else next(iter(set(ports) - {_NEEDED_PORT}), _NEEDED_PORT))
        result = {
            "changed": bool(actions),
            "actions": actions,
            "endpoint": endpoint,
            "kernel_lacks": list(sight.lacks),
            "docker_group_id": sight.group,
            "engine_version": sight.version,
        }
        if self._task.diff and actions and wanted != sight.profile:
            result["diff"] = {
                "before": sight.profile,
                "after": wanted,
                "before_header": f"{params['name']}:{boot2docker.PROFILE}",
                "after_header": f"{params['name']}:{boot2docker.PROFILE}",
            }
        if self._task.check_mode or not actions:
            return result
        if wanted == sight.profile:
            guest.restart_engine()
        else:
            guest.replace_profile(wanted)
        if not tls:
            Display().warning(
                f"{params['name']}: its API has no TLS. Whoever reaches {listen} is root on the machine, and "
                "docker-machine's own env, config, upgrade and the DOCKER column of ls do not work: use "
                f"DOCKER_HOST={endpoint['docker_host']} with DOCKER_TLS_VERIFY unset"
            )
        problem = _trouble(params, endpoint, ports)
        if problem:
            log = guest.log_end()
            if wanted == sight.profile or not sight.profile:
                put_back = "The profile is as it was"
            else:
                guest.write("take its old profile back", boot2docker.PROFILE, sight.profile)
                guest.restart_engine()
                lost = _closed(params["address"], sight.ports, params["timeout_seconds"])
                put_back = "The old profile is in place again" + (f", but the engine {lost} with it" if lost else "")
            raise ApiaryError(
                f"{params['name']}: the engine, restarted to listen on "
                f"{', '.join(boot2docker.listening(listen, ports))} {'with' if tls else 'without'} TLS, {problem} "
                f"within {params['timeout_seconds']} s (boot2docker_profile_timeout_seconds). {put_back}. The end of "
                f"{boot2docker.LOG}:\n{log}"
            )
        return result


def _endpoint(params: dict[str, Any], port: int) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"docker_host": f"tcp://{params['address']}:{port}"}
    if params["tls"]:
        directory = Path(params["directory"])
        endpoint |= {
            "tls": True,
            "validate_certs": True,
            "ca_path": str(directory / "ca.pem"),
            "client_cert": str(directory / "cert.pem"),
            "client_key": str(directory / "key.pem"),
        }
    return endpoint


def _trouble(params: dict[str, Any], endpoint: dict[str, Any], ports: Sequence[int]) -> str:
    """Wait for each port, and for an answer of the API; say what did not come."""
    deadline = time.monotonic() + params["timeout_seconds"]
    if closed := _closed(params["address"], ports, params["timeout_seconds"]):
        return closed
    while True:
        try:
            with connect(endpoint, timeout_seconds=10):
                return ""
        except CertificateRefused as error:
            return f"was not usable ({error})"
        except ApiaryError as error:
            if time.monotonic() > deadline:
                return f"did not answer ({error})"
            time.sleep(_POLL_SECONDS)


def _closed(address: str, ports: Iterable[int], seconds: float) -> str:
    """Wait for each port, and say which of them did not open."""
    deadline = time.monotonic() + seconds
    for port in ports:
        while not _accepts(address, port):
            if time.monotonic() > deadline:
                return f"did not open port {port}"
            time.sleep(_POLL_SECONDS)
    return ""


def _accepts(address: str, port: int) -> bool:
    with socket.socket() as connection:
        connection.settimeout(5)
        return connection.connect_ex((address, port)) == 0
