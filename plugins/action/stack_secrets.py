# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have a stack's secrets and configs in the swarm; see the module of the same name for its documentation.

Contents are in variables of this plugin and in requests to the engine alone. Tasks that call it have no_log, with which
Ansible before 2.19 hides why one fails: there the reason is shown from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker.errors
from ansible import constants
from ansible.release import __version__
from ansible.utils.display import Display
from packaging.version import Version

from ansible_collections.apiary.swarm.plugins.module_utils import ingress
from ansible_collections.apiary.swarm.plugins.module_utils import stack_secrets as versions
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.compose_check import deployable
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.project_files import find
from ansible_collections.apiary.swarm.plugins.module_utils.stack_secrets import Item, Source
from ansible_collections.apiary.swarm.plugins.modules.stack_secrets import ARGUMENT_SPEC, RELATIONS

_HIDES_REASONS = Version(__version__) < Version("2.19")


@dataclass(frozen=True)
class _Live:
    """What the swarm has; nothing before there is one."""

    cluster_id: str = ""
    #: by kind: all of them
    items: Mapping[str, list[Mapping[str, Any]]] = field(default_factory=dict)


class ActionModule(ApiaryAction):
    """Make the versions that are missing and return the compose file that names them; or remove the old ones."""

    argument_spec = ARGUMENT_SPEC
    argument_relations = RELATIONS

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        try:
            if params["state"] == "swept":
                return self._sweep(params)
            listed = [source for kind in versions.VARIABLES for source in _sources(params, kind)]
            if params["state"] == "checked":
                for source in listed:
                    self._item(source, task_vars)
                return {"changed": False}
            return self._have(params, listed, task_vars)
        except ApiaryError as error:
            if _HIDES_REASONS:
                Display().display(f"  {error}", color=constants.COLOR_ERROR)
            raise

    def _item(self, source: Source, task_vars: Mapping[str, Any]) -> Item:
        """Return the secret or config of an entry, with its content."""
        content = None if source.value is None else source.value.encode()
        if source.file is not None:
            variable = versions.VARIABLES[source.kind]
            path = find(source.file, task_vars, f"file for {variable}: {source.name}:", "Correct its path")
            try:
                # one that ansible-vault has encrypted is decrypted
                real = self._loader.get_real_file(str(path))
                content = Path(real).read_bytes()
                self._loader.cleanup_tmp_file(real)
            except OSError as error:
                raise ApiaryError(f"{variable}: {source.name}: {path} cannot be read: {error.strerror}") from error
        return versions.checked(Item(source.kind, source.name, content, source.length))

    def _have(
        self, params: Mapping[str, Any], listed: Sequence[Source], task_vars: Mapping[str, Any]
    ) -> dict[str, Any]:
        name = params["name"]
        document = deployable(params["compose"], name)
        used = versions.wanted(document, listed)
        _refuse_rotations(params["rotate"], used)
        items = [self._item(source, task_vars) for source in used]
        live = self._read(params, document, used)
        if live.cluster_id:
            _refuse_missing(document, live, used)
        names, missing = self._names(items, live, name, params["rotate"])
        actions = [f"make {item.word} {item.name}" for item in missing]
        if actions and not self._task.check_mode:
            with connect(params["docker"]) as api:
                for item in missing:
                    Display().display(f"  making the {item.word} {item.name}")
                    _create(api, item, names[item.kind, item.name], name)
        elif actions:
            Display().display(f"  would {', '.join(actions)}")
        old = [
            {"kind": kind, "id": version["ID"], "name": version["Spec"]["Name"]}
            for kind, found in live.items.items()
            for version in versions.superseded(
                versions.own(found, name),
                {key: version for (of_kind, key), version in names.items() if of_kind == kind},
                [source for source in listed if source.kind == kind],
            )
        ]
        text = ingress.to_text(versions.rewritten(document, names)) if names else params["compose"]
        return {"changed": bool(actions), "actions": actions, "compose": text, "superseded": old}

    def _read(self, params: Mapping[str, Any], document: Mapping[str, Any], used: Iterable[Source]) -> _Live:
        # A list of configs has their contents: all of them are asked for only where a stranger's is needed.
        ours = {"label": [f"{versions.STACK_LABEL}={params['name']}"]}
        filters = None if versions.strangers(document, "configs", [source.name for source in used]) else ours
        try:
            with connect(params["docker"]) as api:
                # The answer has the join tokens, which are not looked at.
                cluster_id = api.inspect_swarm()["ID"]
                return _Live(cluster_id, {"secrets": api.secrets(), "configs": api.configs(filters=filters)})
        except ApiaryError:
            if not self._task.check_mode:
                raise
            return _Live()  # the machine or the swarm is not made yet

    def _names(
        self, items: Iterable[Item], live: _Live, stack: str, rotate: Iterable[str]
    ) -> tuple[dict[tuple[str, str], str], list[Item]]:
        """Return the version's name of each item, by kind and name, and the items that have to be made."""
        names, missing = {}, []
        for item in items:
            found = ""
            if live.cluster_id and item.name not in rotate:
                found = versions.current(item, versions.own(live.items[item.kind], stack), stack, live.cluster_id)
            if not found:
                missing.append(item)
            names[item.kind, item.name] = found or versions.version_name(stack, item.name, _suffix(item, stack, live))
        return names, missing

    def _sweep(self, params: Mapping[str, Any]) -> dict[str, Any]:
        removed: list[str] = []
        with connect(params["docker"]) as api:
            used = versions.users(api.services())
            for version in params["superseded"]:
                if version["id"] in used:
                    continue
                if not self._task.check_mode and not _remove(api, version):
                    continue
                removed.append(version["name"])
        return {"changed": bool(removed), "removed": removed}


def _sources(params: Mapping[str, Any], kind: str) -> list[Source]:
    return versions.sources(kind, params[kind], params["name"])


def _suffix(item: Item, stack: str, live: _Live) -> str:
    if not live.cluster_id:
        return versions.UNKNOWN
    return versions.fresh_suffix() if item.content is None else versions.suffix_of(item, stack, live.cluster_id)


def _refuse_rotations(rotate: Iterable[str], used: Iterable[Source]) -> None:
    generated = sorted(source.name for source in used if source.length)
    for name in rotate:
        if name not in generated:
            raise ApiaryError(
                f"stack_secrets_rotate has {name!r}, which is no generated secret that this stack uses "
                f"({', '.join(generated) or 'it has none'}): give others a new value or file in stack_secrets"
            )


def _refuse_missing(document: Mapping[str, Any], live: _Live, used: Iterable[Source]) -> None:
    problems = []
    for kind, variable in versions.VARIABLES.items():
        there = {item["Spec"]["Name"] for item in live.items[kind]}
        ours = [source.name for source in used if source.kind == kind]
        problems += [
            f"the {kind.removesuffix('s')} {name} of {', '.join(services)} is external, and the swarm has none of that "
            f"name: add it to {variable}, or make it with 'docker {kind.removesuffix('s')} create {name}'"
            for name, services in versions.strangers(document, kind, ours).items()
            if name not in there
        ]
    if problems:
        raise ApiaryError("nothing was deployed: " + "\n".join(problems))


def _create(api: Any, item: Item, version: str, stack: str) -> None:
    content = versions.generated(item.length) if item.content is None else item.content
    create = api.create_secret if item.kind == "secrets" else api.create_config
    try:
        create(version, content, labels=versions.labels_of(item, stack))
    except docker.errors.APIError as error:
        if error.status_code != 409:  # another run has just made it
            raise ApiaryError(f"the engine would not take the {item.word} {item.name}: {error.explanation}") from None


def _remove(api: Any, version: Mapping[str, Any]) -> bool:
    """Remove a version; the swarm keeps one that a service has begun to use meanwhile."""
    remove = api.remove_secret if version["kind"] == "secrets" else api.remove_config
    try:
        remove(version["id"])
    except docker.errors.NotFound:
        return False
    except docker.errors.APIError as error:
        if "in use" in str(error.explanation):
            return False
        raise
    return True
