# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What must hold before a stack is deployed: its images exist, and what a removed stack left behind is gone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker.errors
from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.stack import NAMESPACE_LABEL, services_of

#: a registry that is out of reach can keep an engine busy for much longer
_REGISTRY_TIMEOUT_SECONDS = 10
_REMOVAL_TIMEOUT_SECONDS = 90
_LEFTOVER_NETWORK_SECONDS = 10
_POLL_SECONDS = 0.5


def missing_images(api: Any, endpoint: Mapping[str, Any], images: Mapping[str, str]) -> list[str]:
    """Return a line for each service of *images* whose image neither the manager nor a registry has."""
    unknown = {}
    for image in sorted(set(images.values())):
        try:
            api.inspect_image(image)
        except docker.errors.NotFound:
            unknown[image] = ""
    if unknown:
        with ThreadPoolExecutor(max_workers=8) as pool:
            unknown.update(zip(unknown, pool.map(lambda image: _registry_error(endpoint, image), unknown), strict=True))
    return [
        f"the image {image} of service {service} could not be found, neither on the manager nor in a registry "
        f"({unknown[image]}). Check its name in the template; build it and bring it to the nodes, or publish it"
        for service, image in sorted(images.items())
        if unknown.get(image)
    ]


def _registry_error(endpoint: Mapping[str, Any], image: str) -> str:
    """Return why the image is not to be had from its registry, empty if it is."""
    try:
        with connect(endpoint, timeout_seconds=_REGISTRY_TIMEOUT_SECONDS) as api:
            try:
                api.inspect_distribution(image)
            except docker.errors.APIError as error:
                return f"registry: {error.explanation or error}"
    except ApiaryError:
        return f"registry: no answer in {_REGISTRY_TIMEOUT_SECONDS} seconds"
    return ""


def wait_for_removal(api: Any, stack: str) -> None:
    """Wait until tasks and networks of a stack that was just removed are gone.

    ``docker stack rm`` returns before they are. The client would take such a network for one to be used, and the swarm
    would then refuse the service: "network … not found" (moby issue 29293).
    """
    own = {"label": [f"{NAMESPACE_LABEL}={stack}"]}
    deadline = time.monotonic() + _REMOVAL_TIMEOUT_SECONDS
    without_tasks_since, is_told = None, False
    while networks := api.networks(filters=own):
        if services_of(api.services(filters=own), stack):
            return
        if not is_told:
            Display().display(f"  waiting until the removed stack {stack} is gone")
            is_told = True
        # Tasks of a service that is gone are found by no label: they are counted by the networks they hold.
        held = {
            attachment["Network"]["ID"]
            for task in api.tasks()
            for attachment in task.get("NetworksAttachments") or []
            if task["Status"]["State"] in ("assigned", "accepted", "preparing", "ready", "starting", "running")
        }
        if not held & {network["Id"] for network in networks}:
            without_tasks_since = without_tasks_since or time.monotonic()
            if time.monotonic() - without_tasks_since > _LEFTOVER_NETWORK_SECONDS:
                return  # networks that nothing is about to remove can be used again
        if time.monotonic() > deadline:
            names = ", ".join(network["Name"] for network in networks)
            raise ApiaryError(
                f"the stack {stack} is still being removed after {_REMOVAL_TIMEOUT_SECONDS} seconds: tasks hold the "
                f"network {names}. See 'docker network inspect', and run again when they are gone"
            )
        time.sleep(_POLL_SECONDS)
