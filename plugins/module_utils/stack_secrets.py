# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Secrets and configs of a stack: their content cannot change in a swarm, so each content is a version of its own.

A compose file says ``external: true`` and the plain name; what is deployed has the name of the version in its place. So
a changed content is a changed service, and one that goes back to what it was is not.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils import compose
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

#: kind in a compose file → the option, which is also the role's variable
VARIABLES = {"secrets": "stack_secrets", "configs": "stack_configs"}
#: on what is ours: the stack, the name in the compose file and, on a secret that the swarm alone knows, that it is so
STACK_LABEL = "apiary.stack"
NAME_LABEL = "apiary.name"
GENERATED_LABEL = "apiary.generated"

#: what Docker takes
_LARGEST_BYTES = 500 * 1024
_LONGEST_NAME = 64
_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9])?")
_SHORTEST_GENERATED, _LONGEST_GENERATED = 8, 1024
_ALPHABET = string.ascii_letters + string.digits
_SUFFIX_BYTES = 6
#: the last part of a version's name before anything is known of the swarm
UNKNOWN = "new"
#: a name beside ``external: true`` came with this version of compose files; ``external: {name: …}`` is older
_NEEDED_VERSION = (3, 5)

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """A secret or config of the inventory; without *content* it is generated, *length* characters long."""

    kind: str
    name: str
    content: bytes | None = field(default=None, repr=False)
    length: int = 0

    @property
    def word(self) -> str:
        return self.kind.removesuffix("s")


@dataclass(frozen=True)
class Source:
    """An entry of ``stack_secrets`` or ``stack_configs`` that is sound: where the content comes from."""

    kind: str
    name: str
    value: str | None = field(default=None, repr=False)
    file: str | None = None
    length: int = 0


def sources(kind: str, entries: Any, stack: str) -> list[Source]:
    """Return the *entries* of a list, checked; ApiaryError says what is wrong with them, and never what they hold."""
    variable = VARIABLES[kind]
    problems: list[str] = []
    found: dict[str, Source] = {}
    for number, entry in enumerate(entries, 1):
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            problems.append(
                f"entry {number} of {variable} has no usable name: write name: and letters, digits, '_', '.' or '-', "
                "as the compose file calls it"
            )
            continue
        where = f"{variable}: {name}"
        if name in found:
            problems.append(f"{where}: stands twice in the list: leave one out")
        if len(version_name(stack, name, "0" * 2 * _SUFFIX_BYTES)) > _LONGEST_NAME:
            problems.append(
                f"{where}: with the stack's name {stack} and a version it has more than the {_LONGEST_NAME} "
                "characters that Docker allows: shorten one of them"
            )
        problems += _entry_problems(kind, where, entry)
        value, length = entry.get("value"), entry.get("generate")
        found[name] = Source(
            kind,
            name,
            None if value is None else str(value),
            None if entry.get("file") is None else str(entry["file"]),
            length if isinstance(length, int) else 0,
        )
    if problems:
        raise ApiaryError("\n".join(problems))
    return list(found.values())


def _entry_problems(kind: str, where: str, entry: Object) -> Iterator[str]:
    known = ["value", "file", *(["generate"] if kind == "secrets" else [])]
    unknown = sorted(set(map(str, entry)) - {"name", *known})
    if unknown:
        yield f"{where}: has the unknown key {unknown[0]}; known are name, {', '.join(known)}"
    given = [key for key in known if entry.get(key) is not None]
    if len(given) != 1:
        yield f"{where}: needs one of {', '.join(known)}, and has {' and '.join(given) or 'none'}"
        return
    value = entry[given[0]]
    if given == ["generate"]:
        if isinstance(value, bool) or not isinstance(value, int) or not (
            _SHORTEST_GENERATED <= value <= _LONGEST_GENERATED
        ):  # fmt: skip
            yield (
                f"{where}: generate is the number of characters, from {_SHORTEST_GENERATED} to {_LONGEST_GENERATED}, "
                f"got {value!r}"
            )
    elif isinstance(value, bool) or not isinstance(value, str | int):
        # what it is may be the secret itself
        kind = "list or mapping" if isinstance(value, Mapping | list) else "number or boolean"
        yield f"{where}: {given[0]} is a text, got a {kind}: put it in quotes"


def checked(item: Item) -> Item:
    """Return *item*, or raise ApiaryError where Docker takes no such content."""
    if item.content is not None and not 0 < len(item.content) <= _LARGEST_BYTES:
        size = "is empty" if not item.content else f"has {len(item.content)} bytes"
        raise ApiaryError(
            f"{VARIABLES[item.kind]}: {item.name} {size}: Docker takes 1 to {_LARGEST_BYTES} bytes for a {item.word}"
        )
    return item


def externals(document: Object, kind: str) -> dict[str, str]:
    """Return what *document* takes from the swarm: the name that services use → the name in the swarm."""
    found = {}
    for name, definition in (document.get(kind) or {}).items():
        if isinstance(definition, Mapping) and (external := definition.get("external")):
            inner = external.get("name") if isinstance(external, Mapping) else None
            found[name] = str(definition.get("name") or inner or name)
    return found


def used_by(document: Object, kind: str) -> dict[str, list[str]]:
    """Return the secrets or configs that services of *document* use, by the name that they use, with those services."""
    users: dict[str, list[str]] = {}
    for service, section in document["services"].items():
        for name in compose.sources(section.get(kind)):
            users.setdefault(name, []).append(service)
    return users


def wanted(document: Object, found: Iterable[Source]) -> list[Source]:
    """Return the entries that *document* uses under their plain names; ApiaryError where it defines one itself."""
    result, problems = [], []
    for source in found:
        outside = externals(document, source.kind)
        if source.name in (document.get(source.kind) or {}) and source.name not in outside:
            problems.append(
                f"{source.kind}.{source.name}: {VARIABLES[source.kind]} has it, and the template says where else it "
                "comes from: write external: true there, or take it out of the list"
            )
        elif outside.get(source.name) == source.name and source.name in used_by(document, source.kind):
            result.append(source)
    if problems:
        raise ApiaryError("\n".join(problems))
    return result


def strangers(document: Object, kind: str, own: Iterable[str]) -> dict[str, list[str]]:
    """Return what services of *document* take from the swarm and is not our *own*: its name there, and the services."""
    outside = {key: name for key, name in externals(document, kind).items() if key not in set(own)}
    return {outside[key]: services for key, services in used_by(document, kind).items() if key in outside}


def version_name(stack: str, name: str, suffix: str) -> str:
    return f"{stack}_{name}-{suffix}"


def suffix_of(item: Item, stack: str, cluster_id: str) -> str:
    """Return the part of a version's name that follows from its content.

    Whoever may list a swarm's secrets sees their names. So that a weak one is not found by trying, the hash is one that
    takes long, and another one in each swarm.
    """
    content = item.content or b""
    if item.kind == "configs":
        return hashlib.sha256(content).hexdigest()[: 2 * _SUFFIX_BYTES]
    salt = f"{cluster_id}/{stack}/{item.name}".encode()
    return hashlib.scrypt(content, salt=salt, n=1 << 14, r=8, p=1, dklen=_SUFFIX_BYTES).hex()


def generated(length: int) -> bytes:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length)).encode()


def fresh_suffix() -> str:
    return secrets.token_hex(_SUFFIX_BYTES)


def own(live: Iterable[Object], stack: str) -> list[Object]:
    """Return those of the swarm's secrets or configs that are versions of ours, the newest first."""
    found = [item for item in live if _labels(item).get(STACK_LABEL) == stack and NAME_LABEL in _labels(item)]
    return sorted(found, key=lambda item: str(item.get("CreatedAt", "")), reverse=True)


def current(item: Item, live: Sequence[Object], stack: str, cluster_id: str) -> str:
    """Return the name of the version in the swarm that *item* is; empty where it has to be made."""
    versions = [version for version in live if _labels(version)[NAME_LABEL] == item.name]
    if item.content is None:
        return next((_name(version) for version in versions if GENERATED_LABEL in _labels(version)), "")
    name = version_name(stack, item.name, suffix_of(item, stack, cluster_id))
    return name if name in map(_name, versions) else ""


def superseded(live: Sequence[Object], used: Mapping[str, str], listed: Iterable[Source]) -> list[Object]:
    """Return our versions that are not *used* any more; that maps names to the names of their versions.

    A generated secret that is listed, and that no service wants at the moment, stays: nobody could make it again.
    """
    waiting = {source.name for source in listed if source.length and source.name not in used}
    result = []
    for version in live:  # the newest first
        name = _labels(version)[NAME_LABEL]
        if name in waiting and GENERATED_LABEL in _labels(version):
            waiting.remove(name)
        elif used.get(name) != _name(version):
            result.append(version)
    return result


def labels_of(item: Item, stack: str) -> dict[str, str]:
    generated_label = {GENERATED_LABEL: "true"} if item.content is None else {}
    return {STACK_LABEL: stack, NAME_LABEL: item.name, **generated_label}


def rewritten(document: Object, names: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """Return *document* with the version's name for each kind and name in *names*."""
    result = deepcopy(dict(document))
    numbers = [int(part) for part in str(document["version"]).split(".")]
    has_names = tuple([*numbers, 0][:2]) >= _NEEDED_VERSION
    for (kind, name), version in names.items():
        result[kind][name] = {"external": True, "name": version} if has_names else {"external": {"name": version}}
    return result


def users(services: Iterable[Object]) -> dict[str, set[str]]:
    """Return the IDs of the secrets and configs that *services* use as they are now, with the names of those."""
    used: dict[str, set[str]] = {}
    for service in services:
        container = service["Spec"].get("TaskTemplate", {}).get("ContainerSpec") or {}
        for kind, key in (("Secrets", "SecretID"), ("Configs", "ConfigID")):
            for reference in container.get(kind) or []:
                used.setdefault(reference[key], set()).add(service["Spec"]["Name"])
    return used


def _labels(item: Object) -> Object:
    return item["Spec"].get("Labels") or {}


def _name(item: Object) -> str:
    return str(item["Spec"]["Name"])
