# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether ports are open: what listens and what asks are tried on this computer, and what is told is judged."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils import port_test

#: nobody else's on this computer
ADDRESS = "127.0.94.1"
PORTS = ["23770/tcp", "23770/udp"]


def sh(script: str) -> str:
    return subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, check=True, timeout=120).stdout


def end(process: int) -> None:
    """End a process that is nobody's child any more, and wait until its ports are free."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            os.kill(process, 0)
            time.sleep(0.02)


@pytest.fixture(params=["perl", "python3"])
def listener(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} missing")
    found = port_test.listening(sh(port_test.listen_script(request.param, ADDRESS, PORTS)))
    yield found
    if found["process"]:
        end(found["process"])


def asked(*ports: str, answers: bool = True) -> dict[str, list[str]]:
    target = {"name": "host1", "address": ADDRESS, "ports": ports, "answers": answers}
    return port_test.silent(sh(port_test.ask_script([target])))


def test_open_ports_answer(listener: dict[str, Any]) -> None:
    assert listener["ports"] == PORTS
    assert asked(*PORTS) == {}


def test_closed_ports_are_silent(listener: dict[str, Any]) -> None:
    silent = asked(*PORTS, "23771/tcp", "23771/udp")
    assert sorted(silent["host1"]) == ["23771/tcp", "23771/udp"]


def test_port_that_is_taken_is_told() -> None:
    with socket.create_server((ADDRESS, 23770)):
        for tool in filter(shutil.which, ("perl", "python3")):
            found = port_test.listening(sh(port_test.listen_script(tool, ADDRESS, PORTS)))
            end(found["process"])
            assert (found["taken"], found["ports"]) == (["23770/tcp"], ["23770/udp"])


def test_node_that_listens_by_itself_needs_not_answer() -> None:
    with socket.create_server((ADDRESS, 23770)):
        assert asked("23770/tcp", answers=False) == {}


def result(name: str, **differences: Any) -> dict[str, Any]:
    return {"name": name, "firewall": [], "taken": [], "silent": {}, **differences}


FINDINGS: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "nothing": ([result("host1"), result("host2")], []),
    "one port that a firewall drops": (
        [result("host1", silent={"host2": ["7946/udp"]}), result("host2", firewall=["ufw"])],
        ["host2, which has the firewall ufw, cannot be reached at 7946/udp from host1", "nodes need 2377/tcp"],
    ),
    "several, from several": (
        [
            result("host1", silent={"host3": ["4789/udp", "7946/udp"]}),
            result("host2", silent={"host3": ["7946/udp", "4789/udp"]}),
            result("host3"),
        ],
        ["host3 cannot be reached at 7946/udp, 4789/udp from host1, host2", "nodes need"],
    ),
    "a port that is taken": (
        [result("host1", taken=["2377/tcp"])],
        ["host1: 2377/tcp is taken there by another program, and a node needs it: end that (ss -lnp 'sport = :2377'"],
    ),
    "the kernel's own VXLAN": ([result("host1", taken=["4789/udp"])], []),
}


@pytest.mark.parametrize(("results", "expected"), FINDINGS.values(), ids=FINDINGS)
def test_is_told(results: list[dict[str, Any]], expected: list[str]) -> None:
    found = port_test.findings(results)
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(
    ("tools", "expected"),
    [(["perl", "python3"], "perl"), (["/usr/libexec/platform-python"], "/usr/libexec/platform-python"), (["nft"], "")],
)
def test_what_listens_is_what_the_host_has(tools: list[str], expected: str) -> None:
    assert port_test.helper({"tools": tools}) == expected
