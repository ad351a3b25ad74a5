# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``docker stack deploy``, with the Docker client of the controller or, without one there, of the manager."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker.errors
from ansible import constants

from ansible_collections.apiary.swarm.plugins.module_utils import node_programs
from ansible_collections.apiary.swarm.plugins.module_utils.docker_command import connection_arguments
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.image_registry import Registry

_TIMEOUT_SECONDS = 300
#: all that the client sees of the user's environment: DOCKER_HOST, DOCKER_CONTEXT and proxies must not leak in
_ENVIRONMENT = ("PATH", "HOME", "SSH_AUTH_SOCK")
_VERSION_CLASH = re.compile(r"client version \S+ is too (new|old)")
_REMEDIES = {
    "only updates to Labels are allowed": (
        "The content of a config or secret cannot change under its name: give it another one in the template, "
        "as in name: page-2"
    ),
    "is too new": "Use stack_client: manager, or an older client",
    "is too old": "Use stack_client: manager, or a newer client",
}
#: the client that has --detach says at every deploy that its default will change
_FIRST_WITH_DETACH = 26


class ClientError(ApiaryError):
    """The client ran and failed; ``output`` is what it said."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output

    @property
    def is_version_clash(self) -> bool:
        return bool(_VERSION_CLASH.search(self.output))


@dataclass(frozen=True)
class Deployment:
    """What the client is asked to deploy. Files that the compose text refers to are relative to ``directory``."""

    stack: str
    compose: str
    directory: Path
    files: tuple[str, ...] = ()
    prune: bool = True
    resolve_image: str = "never"
    registry_auth: bool = False
    #: whose login the swarm is to keep with the services, for nodes that will have to pull their images
    login: Registry | None = None

    def arguments(self, compose_path: str, client_version: str) -> list[str]:
        major = re.match(r"\d+", client_version)
        return [
            *("stack", "deploy", "--compose-file", compose_path, "--resolve-image", self.resolve_image),
            *(["--prune"] if self.prune else []),
            *(["--with-registry-auth"] if self.registry_auth or self.login else []),
            *(["--detach=true"] if major and int(major[0]) >= _FIRST_WITH_DETACH else []),
            self.stack,
        ]


def deploy(api: Any, endpoint: Mapping[str, Any], deployment: Deployment, client: str) -> str:
    """Deploy with the client asked for (auto, controller or manager) and return which one did it."""
    binary = shutil.which("docker")
    if client == "controller" and not binary:
        raise ApiaryError(
            "there is no docker client on the controller: install one, or set stack_client to auto or manager "
            "to use the manager's"
        )
    if client == "manager" or not binary:
        _deploy_on_manager(api, endpoint["docker_host"], deployment)
        return "manager"
    try:
        _deploy_from_controller(api, binary, endpoint, deployment)
    except ClientError as error:
        if client != "auto" or not error.is_version_clash:
            raise
        _deploy_on_manager(api, endpoint["docker_host"], deployment)
        return "manager"
    return "controller"


#: what a client asks for a login, in the place of a file with logins: its environment has it, and is gone when it ends
_HELPER = """\
#!/bin/sh
read -r server
[ "$1" = get ] && [ "$server" = "$APIARY_LOGIN_SERVER" ] || { echo "credentials not found in native keychain"; exit 1; }
printf '%s' "$APIARY_LOGIN"
"""


def login_files() -> dict[str, tuple[str, int]]:
    """Return the files of a client's configuration that has it ask our helper: content and mode, by name."""
    return {"config.json": ('{"credsStore": "apiary"}', 0o600), "docker-credential-apiary": (_HELPER, 0o700)}


def login_environment(login: Registry) -> dict[str, str]:
    """Return what that helper answers from."""
    told = {"ServerURL": login.server, "Username": login.username, "Secret": login.password}
    return {"APIARY_LOGIN_SERVER": login.server, "APIARY_LOGIN": json.dumps(told)}


def _deploy_from_controller(api: Any, binary: str, endpoint: Mapping[str, Any], deployment: Deployment) -> None:
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # not in /tmp, where running a program may be forbidden
    with tempfile.TemporaryDirectory(prefix="apiary-", dir=constants.DEFAULT_LOCAL_TMP) as config:
        if deployment.login:
            for name, (content, mode) in login_files().items():
                (Path(config) / name).write_text(content)
                (Path(config) / name).chmod(mode)
            environment |= login_environment(deployment.login) | {"PATH": f"{config}:{environment['PATH']}"}
        if deployment.login or not deployment.registry_auth:
            environment["DOCKER_CONFIG"] = config
        elif "DOCKER_CONFIG" in os.environ:
            environment["DOCKER_CONFIG"] = os.environ["DOCKER_CONFIG"]
        version = _run([binary, "--version"], environment).stdout
        version = (re.search(r"\d+\.[\w.+~-]+", version) or [""])[0]
        result = _run(
            [binary, *connection_arguments(endpoint), *deployment.arguments("-", version)],
            environment,
            text=deployment.compose,
            directory=deployment.directory,
        )
    if result.returncode != 0:
        raise _failure(api, deployment.stack, f"the controller's client {version}", result.stdout + result.stderr)


def _run(
    command: list[str], environment: dict[str, str], text: str = "", directory: Path | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            input=text,
            env=environment,
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ApiaryError(
            f"'docker stack deploy' of the controller did not end within {_TIMEOUT_SECONDS} seconds: "
            "is a registry out of reach? With stack_resolve_image: never none is asked"
        ) from error
    except OSError as error:
        raise ApiaryError(
            f"cannot run {command[0]}: {error}. Set stack_client to manager to use the manager's client"
        ) from error


def _failure(api: Any, stack: str, client: str, output: str) -> ClientError:
    engine = api.version()
    lines = output.strip().splitlines() or ["no message"]
    lines += [remedy for symptom, remedy in _REMEDIES.items() if symptom in output]
    return ClientError(
        f"'docker stack deploy {stack}' failed, run by {client} on engine {engine['Version']} "
        f"(API {engine['MinAPIVersion']} to {engine['ApiVersion']}): " + "\n".join(lines),
        output,
    )


def _deploy_on_manager(api: Any, host: str, deployment: Deployment) -> None:
    engine = api.version()["Version"]  # Debian, Docker and boot2docker ship client and engine of one version
    command = ["docker", "--host", "unix:///docker.sock", *deployment.arguments(_COMPOSE_PATH, engine)]
    socket = docker.types.Mount("/docker.sock", "/var/run/docker.sock", type="bind")
    name = f"apiary-stack-client-{deployment.stack}"
    try:
        status, output = node_programs.run(
            api,
            name,
            _with_login(command) if deployment.login else command,
            mounts=[socket],
            files=_project_archive(deployment),
            environment=_environment(deployment.login),
            told=login_environment(deployment.login)["APIARY_LOGIN"] if deployment.login else "",
            timeout_seconds=_TIMEOUT_SECONDS,
        )
    except docker.errors.APIError as error:
        raise ApiaryError(
            f"the manager at {host} has no docker client that can be run ({error.explanation}): "
            "install a docker client on the controller"
        ) from error
    if status != 0:
        raise _failure(api, deployment.stack, f"the manager's client {engine}", output)


_PROJECT = node_programs.HOME
_COMPOSE_PATH = f"{_PROJECT}/docker-compose.yml"


def _with_login(command: Sequence[str]) -> list[str]:
    """Return *command*, the client's, as what reads the login first: an engine keeps the environment it is told of."""
    told = 'IFS= read -r APIARY_LOGIN && export APIARY_LOGIN && exec "$@"'
    return ["sh", "-c", told, "sh", *command[:1], "--config", _PROJECT, *command[1:]]


def _environment(login: Registry | None) -> dict[str, str]:
    """Return what leads the client to our helper for logins."""
    return {"PATH": f"{_PROJECT}:{node_programs.PATH}", "APIARY_LOGIN_SERVER": login.server} if login else {}


def _project_archive(deployment: Deployment) -> bytes:
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            compose = deployment.compose.encode()
            entry = tarfile.TarInfo(_COMPOSE_PATH.lstrip("/"))
            entry.size, entry.mode = len(compose), 0o600
            archive.addfile(entry, io.BytesIO(compose))
            for name, (text, mode) in (login_files() if deployment.login else {}).items():
                entry = tarfile.TarInfo(f"{_PROJECT[1:]}/{name}")
                entry.size, entry.mode = len(text), mode
                archive.addfile(entry, io.BytesIO(text.encode()))
            for name in deployment.files:
                if Path(name).is_absolute() or ".." in Path(name).parts:
                    raise ApiaryError(
                        f"the compose file refers to {name}, which the manager's client can only be given "
                        f"when it lies under {deployment.directory}: move it there, or install "
                        "a docker client on the controller"
                    )
                archive.add(deployment.directory / name, f"{_PROJECT[1:]}/{name}")
        return buffer.getvalue()
