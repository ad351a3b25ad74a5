#!/usr/bin/env python3
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How long a run takes that has nothing to do, beside the plainest script that asks the same questions.

usage: make bench ARGS='rerun [RUNS]'   (after 'make up'; 5 runs unless told otherwise)

Both take turns, so that a busy machine slows both; the ratio is what counts.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import docker
import requests

ROOT = Path(__file__).resolve().parents[2]
STATE = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "apiary" / "apiary"
ADDRESSES = ["127.0.99.101", "127.0.99.102"]


def client(address: str) -> Any:
    """Return a client for the engine at *address*, as the Docker SDK makes one."""
    own = STATE / "client"
    pair = (str(own / "cert.pem"), str(own / "key.pem"))
    tls = docker.tls.TLSConfig(client_cert=pair, ca_cert=str(own / "ca.pem"), verify=True)
    return docker.APIClient(base_url=f"tcp://{address}:2376", tls=tls, version="auto", timeout=60)


def bare() -> float:
    """Ask what a run asks: the engines for state and images, the manager for the stack, the web for each task."""
    started = time.monotonic()
    for address in ADDRESSES:
        api = client(address)
        api.info()
        api.images()
        api.close()
    manager = client(ADDRESSES[0])
    for question in (manager.inspect_swarm, manager.nodes, manager.services, manager.configs, manager.tasks):
        question()
    manager.close()
    for address in ADDRESSES:
        for _ in range(5):
            requests.get(f"http://{address}:4000/", timeout=20).raise_for_status()
    return time.monotonic() - started


def run() -> tuple[float, str]:
    """Run site.yml, which must have nothing to change; return its time and the line of its phases."""
    started = time.monotonic()
    result = subprocess.run(
        ["ansible-playbook", "playbooks/site.yml"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds = time.monotonic() - started
    if sum(map(int, re.findall(r"changed=(\d+)", result.stdout))):
        sys.exit("the run changed something: run 'make up' first, and this again")
    phases = re.search(r"^.* · total .*$", result.stdout, re.MULTILINE)
    return seconds, phases[0] if phases else ""


def main() -> None:
    """Print the medians, the ratio, and the phases of the last run."""
    os.environ.pop("REQUESTS_CA_BUNDLE", None)  # it would replace the cluster's own authority
    pairs = [(*run(), bare()) for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 5)]
    ours, plain = [pair[0] for pair in pairs], [pair[2] for pair in pairs]
    print(f"site.yml, nothing to change: median {statistics.median(ours):.1f} s ({min(ours):.1f} to {max(ours):.1f})")
    print(
        f"bare script, same questions: median {statistics.median(plain):.1f} s ({min(plain):.1f} to {max(plain):.1f})"
    )
    print(f"ratio: {statistics.median(a / b for a, b in zip(ours, plain, strict=True)):.1f}")
    print(f"phases of the last run: {pairs[-1][1]}")


if __name__ == "__main__":
    main()
