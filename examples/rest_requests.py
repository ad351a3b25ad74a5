#!/usr/bin/env python3
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Use a cluster over plain REST, with the Python package requests: list nodes, deploy, scale, follow what happens.

usage: rest_requests.py IMAGE    with DOCKER_HOST and DOCKER_CERT_PATH as playbooks/access.yml sets them
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import requests

NAME = "example-requests"
#: of engines from 19.03 on; each engine speaks all versions from its oldest to its newest
VERSION = "v1.40"


class Api:
    """The Docker API of a manager; https://docs.docker.com/reference/api/engine/ lists what it has."""

    def __init__(self, host: str, certificates: Path) -> None:
        self.url = f"{host.replace('tcp://', 'https://')}/{VERSION}"
        self.session = requests.Session()
        self.session.trust_env = False  # REQUESTS_CA_BUNDLE knows nothing of the cluster's own authority
        self.session.verify = str(certificates / "ca.pem")
        self.session.cert = (str(certificates / "cert.pem"), str(certificates / "key.pem"))

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request, and raise what the engine refuses."""
        answer = self.session.request(method, f"{self.url}{path}", timeout=60, **options)
        answer.raise_for_status()
        return answer


def spec(image: str, replicas: int) -> dict[str, Any]:
    """Return the service that is wanted: an update takes the whole of it again."""
    return {
        "Name": NAME,
        "TaskTemplate": {"ContainerSpec": {"Image": image}},
        "Mode": {"Replicated": {"Replicas": replicas}},
    }


def main(image: str) -> None:
    """Do one after another, and remove the service again."""
    api = Api(os.environ["DOCKER_HOST"], Path(os.environ["DOCKER_CERT_PATH"]))

    for node in api.ask("GET", "/nodes").json():
        role = "leader" if node.get("ManagerStatus", {}).get("Leader") else node["Spec"]["Role"]
        print(f"node {node['Description']['Hostname']}: {role}, {node['Status']['State']}")

    began = time.time()
    service = api.ask("POST", "/services/create", json=spec(image, 1)).json()["ID"]
    try:
        # A change is made to a version, so that two who change at once do not undo each other.
        version = api.ask("GET", f"/services/{service}").json()["Version"]["Index"]
        api.ask("POST", f"/services/{service}/update", params={"version": version}, json=spec(image, 2))

        wanted = {"since": began, "filters": json.dumps({"type": ["service"], "service": [NAME]})}
        with api.ask("GET", "/events", params=wanted, stream=True) as events:
            for line in events.iter_lines(chunk_size=1):
                event = json.loads(line)
                replicas = event["Actor"]["Attributes"].get("replicas.new")
                print(f"event: service {event['Action']}" + (f", {replicas} replicas" if replicas else ""))
                if replicas == "2":
                    break

        filters = json.dumps({"service": [NAME], "desired-state": ["running"]})
        while True:
            tasks = api.ask("GET", "/tasks", params={"filters": filters}).json()
            if sum(1 for task in tasks if task["Status"]["State"] == "running") == 2:
                break
            time.sleep(0.5)
        print(f"service {NAME}: 2 tasks run")
    finally:
        api.ask("DELETE", f"/services/{service}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
