# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The Docker client's command line for an endpoint: to be run, or to be shown to a person who will paste it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any


def connection_arguments(endpoint: Mapping[str, Any]) -> list[str]:
    """Return the client's flags for *endpoint*; flags win over every variable and context of the user."""
    host = re.sub(r"^https?://", "tcp://", endpoint["docker_host"])
    arguments = ["--host", host]
    if not host.startswith("tcp://") or not (endpoint.get("tls") or endpoint.get("validate_certs")):
        return arguments
    arguments.append("--tlsverify" if endpoint.get("validate_certs") else "--tls")
    for flag, key in (("--tlscacert", "ca_path"), ("--tlscert", "client_cert"), ("--tlskey", "client_key")):
        if endpoint.get(key):
            arguments += [flag, str(endpoint[key])]
    return arguments


def docker_command(endpoint: Mapping[str, Any], *arguments: str) -> str:
    """Return the line with which a person does *arguments* with the engine at *endpoint*, whatever their shell has."""
    flags = connection_arguments(endpoint)
    # the variable, of whatever value, would have the client use TLS where the endpoint has none
    before = ["env", "-u", "DOCKER_TLS_VERIFY"] if len(flags) == 2 else []
    return shlex.join([*before, "docker", *flags, *arguments])


def from_one(endpoint: Mapping[str, Any], address: str) -> str:
    """Return the line that makes one manager the only one of its swarm, when the majority is lost for good."""
    advertised = ["--advertise-addr", address] if address else []
    return docker_command(endpoint, "swarm", "init", "--force-new-cluster", *advertised)


def unlocking(name: str, endpoint: Mapping[str, Any]) -> str:
    """Return what to say of a manager whose swarm is locked."""
    return (
        f"{name} holds a locked swarm (autolock): since its engine was restarted it waits for the unlock key. Whoever "
        f"has the key gives it to this, which asks for it: {docker_command(endpoint, 'swarm', 'unlock')} . A manager "
        "that is not locked tells it: docker swarm unlock-key"
    )
