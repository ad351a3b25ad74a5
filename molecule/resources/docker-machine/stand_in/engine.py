# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What nearly every call asks the engine, without the half second that loading the Docker SDK takes."""

from __future__ import annotations

import http.client
import json
import os
import socket
from urllib.parse import urlsplit

_SECONDS = 60


class EngineError(Exception):
    """Why the engine did not say what it was asked for."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket of this computer."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=_SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self.path)


def docker_host() -> str:
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def container_state(container: str) -> str:
    """Return the state of a guest: running, paused or poweroff."""
    url = urlsplit(docker_host())
    if url.scheme != "unix":
        raise EngineError(f"DOCKER_HOST is {docker_host()}: guests need an engine of this computer, at unix://PATH")
    connection = _Connection(url.path)
    try:
        connection.request("GET", f"/containers/{container}/json")
        answer = connection.getresponse()
        found = json.loads(answer.read())
    except (OSError, ValueError) as error:
        raise EngineError(f"no Docker Engine answers at {docker_host()}: {error}") from error
    finally:
        connection.close()
    if answer.status == http.HTTPStatus.NOT_FOUND:
        return "poweroff"
    if answer.status != http.HTTPStatus.OK:
        raise EngineError(f"the engine at {docker_host()} refused a request: {found}")
    status = str(found["State"]["Status"])
    return status if status in ("running", "paused") else "poweroff"
