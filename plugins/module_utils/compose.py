# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Compose files as ``docker stack deploy`` reads them: parsing, published ports, a summary of the services."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import yaml

DEFAULT_MODE = "replicated"
PROTOCOLS = ("tcp", "udp", "sctp")
PORT_MODES = ("ingress", "host")


class ComposeError(Exception):
    """A text that is no compose file; ``line`` counts from 1 and is 0 where unknown."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class _ComposeLoader(yaml.SafeLoader):
    """YAML as Docker's client understands it: a key stands once, and 4000:22 is text, not a number to base 60."""

    def resolve(self, kind: type[Any], value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0] and ":" in value:
            implicit = (False, True)
        return super().resolve(kind, value, implicit)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _value in node.value:
            key = str(key_node.value)
            if key in seen and key != "<<":
                raise ComposeError(f"the key {key!r} stands twice in one mapping", key_node.start_mark.line + 1)
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse(text: str) -> dict[str, Any]:
    """Return the compose document in *text*; anything but one mapping raises ComposeError with the line."""
    try:
        document = yaml.load(text, Loader=_ComposeLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ComposeError(str(error.problem or error.context), mark.line + 1 if mark else 0) from error
    except yaml.YAMLError as error:
        raise ComposeError(str(error)) from error
    if not isinstance(document, dict):
        kind = "nothing" if document is None else type(document).__name__
        raise ComposeError(f"a compose file is a mapping with the key 'services', this is {kind}")
    return document


@dataclass(frozen=True)
class Port:
    """A port of a service; ``published`` is None where the swarm picks one."""

    service: str
    published: int | None
    target: int
    protocol: str = "tcp"
    mode: str = "ingress"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class PortError(Exception):
    """A ``ports`` entry that Docker would refuse, or would take for something else."""


_SHORT_PORT = re.compile(
    r"^(?:(?P<address>\d+(?:\.\d+){3}|\[[0-9a-fA-F:]+\]):)?(?:(?P<published>\d+(?:-\d+)?):)?(?P<target>\d+(?:-\d+)?)(?:/(?P<protocol>\w+))?$"
)


def ports_of(service: str, entry: Any) -> list[Port]:
    """Return the ports of one ``ports`` entry of *service*, in the short or the long syntax; raises PortError."""
    if isinstance(entry, Mapping):
        return [_long_port(service, entry)]
    if isinstance(entry, bool) or not isinstance(entry, str | int):
        raise PortError(f'got {entry!r}; write "PUBLISHED:TARGET", as in "4000:80"')
    match = _SHORT_PORT.match(str(entry))
    if not match:
        raise PortError(f'got {entry!r}; write "PUBLISHED:TARGET", as in "4000:80"')
    if match["address"]:
        raise PortError(
            f"got {entry!r}; a swarm publishes on every address of every node: leave out {match['address']}"
        )
    targets = _range(match["target"])
    published: list[int | None] = [*_range(match["published"])] if match["published"] else [None] * len(targets)
    if len(published) != len(targets):
        raise PortError(f"got {entry!r}; both ranges must be of one length")
    protocol = (match["protocol"] or "tcp").lower()
    ports = [Port(service, outer, inner, protocol) for outer, inner in zip(published, targets, strict=True)]
    for port in ports:
        _check_port(port)
    return ports


def _long_port(service: str, entry: Mapping[str, Any]) -> Port:
    unknown = sorted(set(entry) - {"target", "published", "protocol", "mode", "name", "app_protocol"})
    if unknown:
        raise PortError(f"unknown key {unknown[0]!r}; known are target, published, protocol and mode")
    numbers: dict[str, int | None] = {"published": None, "target": None}
    for key in numbers:
        value = entry.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not str(value).isdigit():
            raise PortError(f"{key} is a port number, got {value!r}")
        numbers[key] = int(value)
    if numbers["target"] is None:
        raise PortError("target, the port in the container, is missing")
    port = Port(
        service, numbers["published"], numbers["target"], entry.get("protocol", "tcp"), entry.get("mode", "ingress")
    )
    _check_port(port)
    return port


def _range(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def _check_port(port: Port) -> None:
    for number in (port.published, port.target):
        if number is not None and not 1 <= number <= 65535:
            raise PortError(f"a port is a number from 1 to 65535, got {number}")
    if port.protocol not in PROTOCOLS:
        raise PortError(f"protocol is one of {', '.join(PROTOCOLS)}, got {port.protocol!r}")
    if port.mode not in PORT_MODES:
        raise PortError(f"mode is one of {', '.join(PORT_MODES)}, got {port.mode!r}")


def published_ports(document: Mapping[str, Any]) -> list[Port]:
    """Return the published ports of a document without problems, those that the swarm picks itself left out."""
    ports = [
        port
        for name, service in document["services"].items()
        for entry in service.get("ports") or []
        for port in ports_of(name, entry)
    ]
    return [port for port in ports if port.published is not None]


def summary(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return image, mode and replicas (None where the mode has none) of each service of a document without problems."""
    services = {}
    for name, service in document["services"].items():
        deploy = service.get("deploy") or {}
        mode = deploy.get("mode", DEFAULT_MODE)
        replicas = deploy.get("replicas", 1) if mode.startswith("replicated") else None
        services[name] = {"image": service["image"], "mode": mode, "replicas": replicas}
    return services


def name_images(document: Mapping[str, Any], names: Mapping[str, str]) -> bool:
    """Put other names in the place of images in *document*, as *names* has them; say whether there were any."""
    renamed = [service for service in document["services"].values() if service["image"] in names]
    for service in renamed:
        service["image"] = names[service["image"]]
    return bool(renamed)


def with_definitions(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each service's section with what the document says of the secrets and configs that it uses.

    Two that are equal make the same service, of which a reference alone does not tell.
    """
    services = {}
    for name, service in document["services"].items():
        used = {
            kind: {key: (document.get(kind) or {}).get(key) for key in sources(service.get(kind))}
            for kind in ("secrets", "configs")
        }
        services[name] = {**service, "x-definitions": used}
    return services


def sources(entries: Any) -> list[str]:
    """Return the names that a service's ``secrets`` or ``configs`` refer to, in the short or the long syntax."""
    return [str(entry["source"] if isinstance(entry, Mapping) else entry) for entry in entries or []]


def referenced_files(document: Mapping[str, Any]) -> list[str]:
    """Return the files whose content the client puts into the stack: configs, secrets and env_file, as written."""
    files = {
        str(entry["file"])
        for kind in ("configs", "secrets")
        for entry in (document.get(kind) or {}).values()
        if isinstance(entry, Mapping) and entry.get("file")
    }
    for service in document["services"].values():
        env_files = service.get("env_file") or []
        files.update([env_files] if isinstance(env_files, str) else map(str, env_files))
    return sorted(files)


def strings_of(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string of a document with its place, such as services.web.image."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from strings_of(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from strings_of(inner, f"{where}[{index}]")
