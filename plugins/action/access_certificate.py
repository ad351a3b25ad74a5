# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Let another person use a cluster, and shut them out; see the module of the same name for its documentation."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_context import name_problem
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.persons import Person, cluster_directory, known
from ansible_collections.apiary.swarm.plugins.modules.access_certificate import ARGUMENT_SPEC

#: the providers whose machines heed a list of revoked certificates, and the others' own ways
_HEEDFUL = ("container_machine", "qemu_machine")
_OTHER_WAYS = {
    "docker_machine": (
        "docker-machine's engines let in whoever has a certificate of its authority, and cannot be told of exceptions: "
        "for another person make an account on this computer, or on the machines"
    ),
    "existing_machine": (
        "its engine is reached over SSH: put the person's key into ~/.ssh/authorized_keys of a user there that may use "
        "Docker; taking it out again is the revocation"
    ),
}


class ActionModule(ApiaryAction):
    """Make or revoke, where that means something."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        name, docker = params["name"], params["docker"]
        _refuse_what_cannot_be_revoked(params["providers"])
        directory = cluster_directory(docker)
        if directory is None:
            raise ApiaryError(
                f"there can be no certificate for {name}: {docker.get('docker_host') or 'no manager'} is not reached "
                "with one of an authority that Apiary keeps on this computer"
            )
        person = Person(name, directory)
        if params["state"] == "absent":
            actions = person.shut_out(check_mode=self._task.check_mode)
            report = f"{name} is let in no more; connections that were open have been ended."
            if not actions:
                held = ", ".join(known(directory)) or "nobody"
                report = f"There is no certificate for {name} that holds; there are some for {held}."
            return {"changed": bool(actions), "actions": actions, "cluster_report": report}
        if problem := name_problem(params["context"]):
            raise ApiaryError(f"access_context is {params['context']!r}: the name of a context {problem}")
        actions = person.let_in(params["context"], params["cluster"], docker, check_mode=self._task.check_mode)
        report = _report(name, person.archive, params["context"], docker)
        return {"changed": bool(actions), "actions": actions, "cluster_report": report}


def _refuse_what_cannot_be_revoked(providers: Mapping[str, Any]) -> None:
    heedless: dict[str, list[str]] = {}
    for host, provider in providers.items():
        if provider not in _HEEDFUL:
            heedless.setdefault(str(provider), []).append(host)
    if heedless:
        told = "; ".join(
            f"{', '.join(hosts)} ({provider}): {_OTHER_WAYS.get(provider, 'it is not known how one would be revoked')}"
            for provider, hosts in heedless.items()
        )
        raise ApiaryError(f"nothing was made, as a certificate could not be revoked on all machines. {told}")


def _report(name: str, archive: Path, context: str, docker: Mapping[str, Any]) -> str:
    lines = [
        f"Hand {archive} over to {name}, on a way that nobody else reads: who has it may do everything on every node.",
        f"{name} then says:",
        f"  docker context import {context} {archive.name}",
        f"  docker --context {context} node ls",
        f"playbooks/access.yml -e access_for={name} -e access_state=absent shuts {name} out.",
    ]
    if _is_loopback(str(docker["docker_host"])):
        lines.append(
            f"{docker['docker_host']} is an address of this computer alone: {name} needs an account on it, or a tunnel "
            "to it (ssh -L)."
        )
    return "\n".join(lines)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(urlsplit(host).hostname or "").is_loopback
    except ValueError:
        return False
