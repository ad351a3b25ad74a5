# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A failed task in words: its error, its exit code, its last log lines and, where one is known, the remedy."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

#: of a frame: the stream (1 stdout, 2 stderr), three zeros, the length of the text
_HEADER = struct.Struct(">4xL")
_REMEDIES = {
    "No such image": "bring the image to every node (playbooks/images.yml), or publish it to a registry they reach",
    "no suitable node": "no node satisfies the constraints or has the resources: see deploy.placement, docker node ls",
    "bind source path does not exist": "make the directory on the node, or use a named volume",
    "unhealthy container": "its health check fails: see healthcheck in the compose file or HEALTHCHECK in the image",
    "executable file not found": "the command is not in the image: see command in the compose file",
}


def describe(service: str, task: Mapping[str, Any], nodes: Mapping[str, str], framed_logs: bytes) -> list[str]:
    """Return the lines that explain why *task* of *service* failed."""
    status = task["Status"]
    number = f".{task['Slot']}" if task.get("Slot") else ""
    where = nodes.get(task.get("NodeID", ""), "no node")
    error = status.get("Err") or status.get("Message", "")
    lines = [f"{service}{number} on {where} {status['State']}: {error}"]
    code = (status.get("ContainerStatus") or {}).get("ExitCode")
    if code is not None and status["State"] != "rejected" and f"({code})" not in error:
        lines[0] += f" (exit code {code})"
    if is_killed_while_starting(task):
        lines += _too_slow(service, task)
    else:
        lines += [f"remedy: {remedy}" for symptom, remedy in _REMEDIES.items() if symptom in error]
    if status["State"] == "complete":
        lines.append(
            "remedy: it ended by itself, or was stopped as its health check fails: see command and healthcheck"
        )
    logs = log_lines(framed_logs)
    return [*lines, *(["its last log lines:", *(f"  {line}" for line in logs)] if logs else [])]


def is_killed_while_starting(task: Mapping[str, Any]) -> bool:
    """Return whether *task* was stopped as unhealthy before it was ever healthy.

    Of one that was healthy before, the engine (20.10 to 28) says its exit code as well.
    """
    error = task["Status"].get("Err") or ""
    return "unhealthy container" in error and "non-zero exit" not in error


def _too_slow(service: str, task: Mapping[str, Any]) -> list[str]:
    spec = task.get("Spec") or {}
    check = (spec.get("ContainerSpec") or {}).get("Healthcheck") or {}
    cpus = ((spec.get("Resources") or {}).get("Limits") or {}).get("NanoCPUs")
    given = [
        f"{name} {check[key] / 1e9:g} s"
        for key, name in (("StartPeriod", "start_period"), ("Interval", "interval"))
        if check.get(key)
    ]
    given += [f"cpus {cpus / 1e9:g}"] if cpus else []
    return [
        "it was stopped while it was starting: its health check failed until its time was over"
        + (f" ({', '.join(given)})" if given else ""),
        "remedy: if it only starts slowly, give it more time or more of the CPU: start_period of its healthcheck "
        f"(health_start_period=900s), cpus of its limits ({service}_cpus=0.5), or fewer checks (health_interval=30s). "
        "Else see healthcheck in the compose file or HEALTHCHECK in the image",
    ]


def log_lines(framed: bytes) -> list[str]:
    """Return the lines in a log answer: frames of an 8-byte header and a text, or the bare text of a terminal."""
    text, rest = b"", framed
    while rest:
        if len(rest) < _HEADER.size or rest[0] > 2 or rest[1:4] != b"\0\0\0":
            text = framed
            break
        (length,) = _HEADER.unpack_from(rest)
        text += rest[_HEADER.size : _HEADER.size + length]
        rest = rest[_HEADER.size + length :]
    return [line.rstrip() for line in text.decode(errors="replace").splitlines() if line.strip()]
