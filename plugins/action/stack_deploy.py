# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make the swarm run a compose file as a stack; see the module of the same name for its documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker.errors
from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import compose, ingress, stack
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.compose_check import deployable
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.image_registry import Registry
from ansible_collections.apiary.swarm.plugins.module_utils.stack_client import Deployment, deploy
from ansible_collections.apiary.swarm.plugins.module_utils.stack_preflight import missing_images, wait_for_removal
from ansible_collections.apiary.swarm.plugins.modules.stack_deploy import ARGUMENT_SPEC


@dataclass(frozen=True)
class _Wanted:
    """The stack that is asked for."""

    name: str
    text: str
    document: dict[str, Any]
    files: tuple[str, ...]
    #: hash of the document's meaning, and of the files it names
    digest: str

    @property
    def services(self) -> dict[str, Any]:
        return self.document["services"]


@dataclass(frozen=True)
class _Live:
    """What the swarm has: all services, and what the last deploy of this stack recorded."""

    all_services: list[Mapping[str, Any]]
    services: dict[str, Mapping[str, Any]]
    record: stack.Record | None
    configs: list[Mapping[str, Any]]


class ActionModule(ApiaryAction):
    """Deploy the stack when something differs, and record what was deployed."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        wanted = _wanted(params)
        try:
            with connect(params["docker"]) as api:
                live = _read(api, wanted.name)
        except ApiaryError:
            if not self._task.check_mode:
                raise
            live = _Live([], {}, None, [])  # the machine or the swarm is not made yet
        actions = self._plan(wanted, live, prune=params["prune"])
        result: dict[str, Any] = {"changed": bool(actions), "actions": actions}
        if actions and self._task.diff:
            result["diff"] = _diff(wanted, live, actions)
        if actions:
            ports = [port.as_dict() for port in ingress.wanted_ports(wanted.document)]
            _refuse(stack.port_conflicts(live.all_services, wanted.name, ports))
        if self._task.check_mode:
            return result
        after = live.services
        if actions:
            with connect(params["docker"], timeout_seconds=300) as api:
                _refuse(missing_images(api, params["docker"], _to_look_for(wanted, params["images"])))
                result["deployed_at"] = api.info()["SystemTime"]
                result["client"] = _deploy(api, params, wanted, live)
                after = _finish(api, wanted, live)
        result["services"] = stack.outcome_of(live.services, after, wanted.services)
        if actions:
            result["actions"] = _done(result["services"]) or actions
        return result

    def _plan(self, wanted: _Wanted, live: _Live, *, prune: bool) -> list[str]:
        before: dict[str, Any] = {}
        if live.record and live.record.compose:
            before = compose.with_definitions(compose.parse(live.record.compose))
        after = compose.with_definitions(wanted.document)
        return stack.plan(live.record, live.services, wanted.digest, after, before, prune=prune)


def _wanted(params: Mapping[str, Any]) -> _Wanted:
    text = params["compose"]
    document = deployable(text, params["name"])
    if compose.name_images(document, params["images"]):
        text = ingress.to_text(document)
    files = tuple(compose.referenced_files(document))
    contents = {name: _content(Path(params["directory"]) / name) for name in files}
    return _Wanted(params["name"], text, document, files, stack.digest([document, contents]))


def _content(path: Path) -> str:
    try:
        return stack.digest(path.read_bytes().hex())
    except OSError as error:
        raise ApiaryError(f"the compose file names {path}, which cannot be read: {error.strerror}") from error


def _read(api: Any, name: str) -> _Live:
    services = api.services()
    configs = api.configs(filters={"label": [f"{stack.RECORD_LABEL}={name}"]})
    return _Live(services, stack.services_of(services, name), stack.newest_record(configs), configs)


def _to_look_for(wanted: _Wanted, published: Mapping[str, str]) -> dict[str, str]:
    """Return the services' images that may be nowhere: a published one is, even if a drained manager has it not."""
    images = {name: str(service["image"]) for name, service in wanted.services.items()}
    return {name: image for name, image in images.items() if image not in published.values()}


def _refuse(problems: Iterable[str]) -> None:
    if lines := list(problems):
        raise ApiaryError("nothing was deployed: " + "\n".join(lines))


def _deploy(api: Any, params: Mapping[str, Any], wanted: _Wanted, live: _Live) -> str:
    login = params["login"] or {}
    is_login = bool(login.get("registry") and login.get("username"))
    deployment = Deployment(
        stack=wanted.name,
        compose=wanted.text,
        directory=Path(params["directory"]).absolute(),
        files=wanted.files,
        prune=params["prune"],
        resolve_image=params["resolve_image"],
        registry_auth=params["registry_auth"],
        login=Registry(login["registry"], login["username"], login["password"]) if is_login else None,
    )
    wait_for_removal(api, wanted.name)
    Display().display(f"  deploying {wanted.name}")
    for name in [] if params["prune"] else stack.unwanted(live.services, wanted.services, prune=False):
        api.remove_service(live.services[name]["ID"])
    return deploy(api, params["docker"], deployment, params["client"])


def _finish(api: Any, wanted: _Wanted, live: _Live) -> dict[str, Mapping[str, Any]]:
    """Record the deploy, drop the records before it and return the services as they are now."""
    services = stack.services_of(api.services(), wanted.name)
    record = stack.record_of(wanted.digest, wanted.text, services, wanted.services)
    name = record.name(wanted.name)
    if name not in [config["Spec"]["Name"] for config in live.configs]:
        api.create_config(name, record.data, labels=stack.record_labels(wanted.name))
    for config in live.configs:
        if config["Spec"]["Name"] != name:
            with suppress(docker.errors.NotFound):
                api.remove_config(config["ID"])
    return services


def _done(services: Mapping[str, Mapping[str, Any]]) -> list[str]:
    verbs = {"created": "create", "updated": "update", "removed": "remove"}
    return [f"{verbs[entry['state']]} service {name}" for name, entry in services.items() if entry["state"] in verbs]


def _diff(wanted: _Wanted, live: _Live, actions: Iterable[str]) -> list[dict[str, str]]:
    before = live.record.compose if live.record else ""
    return [
        {"before": before, "after": wanted.text, "before_header": "deployed", "after_header": "rendered"},
        {"prepared": "".join(f"{action}\n" for action in actions)},
    ]
