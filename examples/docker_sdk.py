#!/usr/bin/env python3
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Use a cluster with the Docker SDK for Python: list nodes, deploy a service, scale it, follow what happens.

usage: docker_sdk.py IMAGE    with DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH as playbooks/access.yml sets them
"""

from __future__ import annotations

import os
import sys
import time

import docker
from docker.models.services import Service
from docker.types import ServiceMode

NAME = "example-sdk"


def main(image: str) -> None:
    """Do one after another, and remove the service again."""
    for authority in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        os.environ.pop(authority, None)  # requests, which the SDK uses, would ask for that instead of the cluster's own
    client = docker.from_env()

    for node in client.nodes.list():
        role = "leader" if node.attrs.get("ManagerStatus", {}).get("Leader") else node.attrs["Spec"]["Role"]
        print(f"node {node.attrs['Description']['Hostname']}: {role}, {node.attrs['Status']['State']}")

    began = int(time.time())
    service = client.services.create(image, name=NAME, mode=ServiceMode("replicated", 1))
    try:
        service.scale(2)
        # Events of the swarm, such as these, come from any manager; those of containers from their own node's engine.
        for event in client.events(since=began, filters={"type": "service", "service": NAME}, decode=True):
            replicas = event["Actor"]["Attributes"].get("replicas.new")
            print(f"event: service {event['Action']}" + (f", {replicas} replicas" if replicas else ""))
            if replicas == "2":
                break
        while running(service) < 2:
            time.sleep(0.5)
        print(f"service {NAME}: 2 tasks run")
    finally:
        service.remove()


def running(service: Service) -> int:
    """Return how many of its tasks run."""
    tasks = service.tasks(filters={"desired-state": "running"})
    return sum(1 for task in tasks if task["Status"]["State"] == "running")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
