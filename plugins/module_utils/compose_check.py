# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with a compose document, all of it at once, found before any machine is touched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.compose import (
    DEFAULT_MODE,
    ComposeError,
    Port,
    PortError,
    parse,
    ports_of,
    strings_of,
)
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

_TOP_LEVEL = ("version", "services", "networks", "volumes", "secrets", "configs")
_MODES = ("replicated", "global", "replicated-job", "global-job")
_CHOICES = {
    "restart_policy.condition": ("none", "on-failure", "any"),
    "update_config.failure_action": ("pause", "continue", "rollback"),
    "update_config.order": ("start-first", "stop-first"),
    "rollback_config.failure_action": ("pause", "continue"),
    "rollback_config.order": ("start-first", "stop-first"),
    "endpoint_mode": ("vip", "dnsrr"),
}
#: keys of a service that ``docker stack deploy`` skips
_IGNORED = (
    *("build", "cgroup_parent", "container_name", "depends_on", "devices", "external_links", "links"),
    *("network_mode", "privileged", "restart", "security_opt", "userns_mode"),
)
_NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_-]*$")
_BYTES = re.compile(r"^\d+(\.\d+)?\s*([kmgtp]i?)?b?$", re.IGNORECASE)
_SHELL_VARIABLE = re.compile(r"(?<!\$)(?:\$\$)*\$(?:\{(?P<braced>[^}]*)\}|(?P<plain>[A-Za-z_]\w*))")
#: Docker allows 63 characters for STACK_SERVICE
_LONGEST_NAME = 63


def deployable(text: str, stack: str) -> dict[str, Any]:
    """Return the document that *text* holds; ApiaryError says why it is none, or none that *stack* can be made of."""
    try:
        document = parse(text)
    except ComposeError as error:
        raise ApiaryError(f"the compose file is no YAML: line {error.line}: {error}") from error
    if problems := problems_of(document, stack):
        raise ApiaryError("this compose file cannot be deployed:\n" + "\n".join(f"- {line}" for line in problems))
    return document


def problems_of(document: Mapping[str, Any], stack: str) -> list[str]:
    """Return what makes *document* unfit to be deployed as *stack*: place, what was got, remedy; empty if nothing."""
    problems = [*_name_problems(stack), *_top_level_problems(document), *_variable_problems(document)]
    services = document.get("services")
    if not isinstance(services, Mapping) or not services:
        return [*problems, f"services: a stack needs at least one service, got {services!r}"]
    published: dict[tuple[int, str], Port] = {}
    for name, service in services.items():
        where = f"services.{name}"
        if not _NAME.match(str(name)) or len(f"{stack}_{name}") > _LONGEST_NAME:
            problems.append(
                f"{where}: a service name has letters, digits, - and _, and no more than {_LONGEST_NAME} characters "
                f"together with the stack's: {stack}_{name}"
            )
        if not isinstance(service, Mapping):
            problems.append(f"{where}: a service is a mapping with an image, got {service!r}")
            continue
        problems += _image_problems(where, service)
        problems += _deploy_problems(where, service.get("deploy"))
        problems += _port_problems(where, str(name), service, published)
        problems += _reference_problems(where, service, document)
        problems += _volume_problems(where, service, document)
    return problems


def warnings_of(document: Mapping[str, Any]) -> list[str]:
    """Return what the swarm will silently leave out of a document without problems."""
    return [
        f"services.{name}.{key}: docker stack deploy ignores this key"
        for name, service in document["services"].items()
        for key in _IGNORED
        if key in service
    ]


def _name_problems(stack: str) -> Iterator[str]:
    if not _NAME.match(stack):
        yield f"the stack's name is made of letters, digits, - and _ and begins with a letter or digit, got {stack!r}"


def _top_level_problems(document: Mapping[str, Any]) -> Iterator[str]:
    for key in document:
        if key not in _TOP_LEVEL and not str(key).startswith("x-"):
            yield f"{key}: unknown at the top level; known are {', '.join(_TOP_LEVEL)} and names that begin with x-"
    version = document.get("version")
    if not isinstance(version, str) or not re.match(r"^3(\.\d+)?$", version):
        yield f'version: docker stack deploy takes compose files of version 3, as in version: "3.8"; got {version!r}'
    for key in _TOP_LEVEL[2:]:
        if not isinstance(document.get(key) or {}, Mapping):
            yield f"{key}: a mapping of names, got {document[key]!r}"


def _variable_problems(document: Mapping[str, Any]) -> Iterator[str]:
    for where, text in strings_of(document):
        for match in _SHELL_VARIABLE.finditer(text):
            variable = match["plain"] or match["braced"]
            if re.search(r"\w:?-", variable):
                continue  # ${TAG:-latest} has a value without a shell
            yield (
                f"{where}: ${match[0].lstrip('$')} would be empty, since no variable of the shell is passed on; "
                "use an Ansible variable ({{ … }}), or $$ for a dollar sign"
            )


def _image_problems(where: str, service: Mapping[str, Any]) -> Iterator[str]:
    image = service.get("image")
    if image is None and "build" in service:
        yield f"{where}: has build but no image; a swarm builds nothing: build the image first and name it under image"
    elif not isinstance(image, str) or not image or any(character.isspace() for character in image):
        yield f"{where}.image: the name of an image is needed, got {image!r}"


def _deploy_problems(where: str, deploy: Any) -> Iterator[str]:
    if deploy is None:
        return
    if not isinstance(deploy, Mapping):
        yield f"{where}.deploy: a mapping, got {deploy!r}"
        return
    mode = deploy.get("mode", DEFAULT_MODE)
    if mode not in _MODES:
        yield f"{where}.deploy.mode: one of {', '.join(_MODES)}, got {mode!r}"
    replicas = deploy.get("replicas", 1)
    if isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 0:
        yield f"{where}.deploy.replicas: a whole number from 0, not in quotes, got {replicas!r}"
    elif "replicas" in deploy and str(mode).startswith("global"):
        yield f"{where}.deploy.replicas: a {mode} service runs once on every node: leave out replicas"
    for path, choices in _CHOICES.items():
        value = _inner(deploy, path)
        if value is not None and value not in choices:
            yield f"{where}.deploy.{path}: one of {', '.join(choices)}, got {value!r}"
    for kind in ("limits", "reservations"):
        cpus, memory = _inner(deploy, f"resources.{kind}.cpus"), _inner(deploy, f"resources.{kind}.memory")
        if cpus is not None and not re.match(r"^\d*\.?\d+$", str(cpus)):
            yield f'{where}.deploy.resources.{kind}.cpus: a number of CPUs, as in "0.1", got {cpus!r}'
        if memory is not None and not _BYTES.match(str(memory)):
            yield f"{where}.deploy.resources.{kind}.memory: a size, as in 50M, got {memory!r}"


def _inner(mapping: Mapping[str, Any], path: str) -> Any:
    value: Any = mapping
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _port_problems(
    where: str, name: str, service: Mapping[str, Any], published: dict[tuple[int, str], Port]
) -> Iterator[str]:
    entries = service.get("ports") or []
    if not isinstance(entries, list):
        yield f"{where}.ports: a list, got {entries!r}"
        return
    for index, entry in enumerate(entries):
        try:
            ports = ports_of(name, entry)
        except PortError as error:
            yield f"{where}.ports[{index}]: {error}"
            continue
        for port in ports:
            if port.mode == "ingress" and _inner(service, "deploy.endpoint_mode") == "dnsrr":
                yield f"{where}.ports[{index}]: endpoint_mode dnsrr has no routing mesh: publish with mode: host"
            if port.published is None:
                continue
            other = published.setdefault((port.published, port.protocol), port)
            if other is not port and "ingress" in (port.mode, other.mode):
                yield (
                    f"{where}.ports[{index}]: port {port.published}/{port.protocol} is already published by "
                    f"services.{other.service}: give one of them another port"
                )


def _reference_problems(where: str, service: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("networks", "secrets", "configs"):
        used = service.get(kind) or []
        declared = document.get(kind) or {}
        if not isinstance(used, list | Mapping) or not isinstance(declared, Mapping):
            yield f"{where}.{kind}: a list of names, got {used!r}"
            continue
        for entry in used:
            name = entry.get("source") if isinstance(entry, Mapping) else entry
            if name not in declared and (kind, name) != ("networks", "default"):
                yield f"{where}.{kind}: {name!r} is not declared; add it to {kind} at the top level"


def _volume_problems(where: str, service: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    declared = document.get("volumes") or {}
    for index, entry in enumerate(service.get("volumes") or []):
        if isinstance(entry, Mapping):
            source, bind = entry.get("source"), entry.get("type") == "bind"
        else:
            source, has_target, _ = str(entry).partition(":")
            if not has_target:
                continue  # an anonymous volume
            bind = source.startswith((".", "/", "~"))
        if bind and not str(source).startswith("/"):
            yield (
                f"{where}.volumes[{index}]: {source!r} would be looked up on the controller, not on the node: "
                "write the absolute path on the node"
            )
        elif not bind and source and source not in declared and not _is_tmpfs(entry):
            yield f"{where}.volumes[{index}]: {source!r} is not declared; add it to volumes at the top level"


def _is_tmpfs(entry: Any) -> bool:
    return isinstance(entry, Mapping) and entry.get("type") in ("tmpfs", "npipe", "cluster")
