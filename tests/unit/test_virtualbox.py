# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What keeps VirtualBox machines from being made is named, with its value and the remedy."""

from __future__ import annotations

import email.message
import json
import urllib.error
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.apiary.swarm.plugins.action import docker_machine_preflight as action_module
from ansible_collections.apiary.swarm.plugins.module_utils import virtualbox
from ansible_collections.apiary.swarm.plugins.module_utils.docker_machine import Store
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.modules.docker_machine_preflight import ARGUMENT_SPEC

CIDR = "192.168.59.1/24"
#: as VirtualBox prints it
ADAPTERS = """\
Name:            vboxnet0
GUID:            786f6276-656e-4074-8000-0a0027000000
DHCP:            Disabled
IPAddress:       192.168.59.1
NetworkMask:     255.255.255.0
HardwareAddress: 0a:00:27:00:00:00
MediumType:      Ethernet
Status:          Up
VBoxNetworkName: HostInterfaceNetworking-vboxnet0

Name:            vboxnet1
IPAddress:       192.168.60.1
VBoxNetworkName: HostInterfaceNetworking-vboxnet1
"""
ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0100000A	0003	0	0	0	00000000	0	0	0
tun0	003DA8C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
vboxnet0	003BA8C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""


def ranges(cidr: str = CIDR, **given: Any) -> list[str]:
    settings: dict[str, Any] = {
        "version": (7, 0, 20),
        "system": "Linux",
        "networks_conf": None,
        "hostonlyifs": virtualbox.adapters(ADAPTERS),
        "routes": ROUTES,
        "used": False,
    }
    return virtualbox.range_problems(cidr, **(settings | given))


@pytest.mark.parametrize(
    ("cidr", "given", "expected"),
    [
        (CIDR, {}, ""),
        ("192.168.63.1/24", {}, ""),
        ("192.168.64.1/24", {}, "which VirtualBox 7.0.20 refuses: it allows 192.168.56.0/21"),
        ("192.168.99.1/24", {}, "a line '* 192.168.99.0/24' in /etc/vbox/networks.conf"),
        ("192.168.99.1/24", {"version": (6, 1, 28)}, "refuses"),
        ("192.168.99.1/24", {"version": (6, 1, 26)}, ""),
        ("192.168.99.1/24", {"system": "Windows"}, ""),
        ("192.168.99.1/24", {"networks_conf": "# mine\n* 10.0.0.0/8 192.168.0.0/16\n"}, ""),
        ("192.168.99.1/24", {"networks_conf": "- 192.168.0.0/16\n"}, "refuses: it allows nothing"),
        ("192.168.99.1/24", {"networks_conf": "* 192.168.99.128/25\n"}, "refuses: it allows 192.168.99.128/25"),
        (CIDR, {"networks_conf": "* 10.0.0.0/8\n"}, "allows 10.0.0.0/8"),
        ("192.168.59.0/24", {}, "names a network: give this computer's address in it, 192.168.59.1/24"),
        ("192.168.59.31/24", {}, "machines get addresses up there"),
        ("192.168.59.1/16", {}, "so give a /24"),
        ("host", {}, "virtualbox_hostonly_cidr is 'host'"),
        ("192.168.61.1/24", {}, "reaches 192.168.61.0/24 through tun0: choose a range that is free"),
        ("192.168.61.1/24", {"used": True}, ""),
        ("192.168.60.1/24", {"routes": ROUTES.replace("003DA8C0", "003CA8C0")}, ""),  # its adapter, by another name
        ("192.168.59.1/24", {"hostonlyifs": virtualbox.adapters(ADAPTERS + ADAPTERS)}, "(vboxnet0, vboxnet0): remove"),
    ],
)
def test_host_only_range(cidr: str, given: dict[str, Any], expected: str) -> None:
    problems = ranges(cidr, **given)
    assert len(problems) == bool(expected)
    assert expected in "".join(problems)


@pytest.mark.parametrize(
    ("text", "version"),
    [("7.0.20r163906\n", (7, 0, 20)), ("6.1.26_Ubuntu r145957", (6, 1, 26)), ("WARNING: vboxdrv", ()), ("", ())],
)
def test_version_is_read(text: str, version: tuple[int, ...]) -> None:
    assert virtualbox.version_of(text) == version


@pytest.mark.parametrize(("number", "sound"), [(25, False), (26, True), (99, True), (100, False)])
def test_address_is_out_of_the_way_of_dhcp(number: int, sound: bool) -> None:
    problems = virtualbox.address_problems([{"name": "m1", "address": f"192.168.59.{number}"}])
    assert (problems == []) == sound
    assert all("set docker_machine_number" in problem for problem in problems)


FLAGS = "processor : 0\nflags\t\t: fpu vme {} sse\n"


@pytest.mark.parametrize(
    ("system", "processor", "version", "cpuinfo", "vtx_check", "expected"),
    [
        ("Linux", "x86_64", (7, 0, 20), FLAGS.format("vmx"), True, ""),
        ("Linux", "x86_64", (7, 0, 20), FLAGS.format("svm"), True, ""),
        ("Linux", "x86_64", (7, 0, 20), FLAGS.format(""), True, "switch VT-x or AMD-V on"),
        ("Linux", "x86_64", (7, 0, 20), FLAGS.format(""), False, ""),
        ("Darwin", "x86_64", (6, 1, 50), None, True, ""),
        ("Darwin", "x86_64", (7, 0, 20), None, True, "no host-only adapters any more"),
        ("Darwin", "arm64", (7, 1, 0), None, True, "this computer is arm64"),
        ("Linux", "aarch64", (7, 1, 0), None, True, "INVENTORY=containers"),
    ],
)
def test_computer_that_cannot_run_machines(
    system: str, processor: str, version: tuple[int, ...], cpuinfo: str | None, vtx_check: bool, expected: str
) -> None:
    problems = virtualbox.host_problems(system, processor, version, cpuinfo, vtx_check=vtx_check)
    assert len(problems) == bool(expected)
    assert expected in "".join(problems)


def refuse(code: int) -> Callable[..., Any]:
    def open_url(request: Any, timeout: float) -> Any:
        raise urllib.error.HTTPError(request.full_url, code, "refused", email.message.Message(), None)

    return open_url


def offline(request: Any, timeout: float) -> Any:
    raise urllib.error.URLError("Name or service not known")


@pytest.mark.parametrize(
    ("url", "open_url", "expected"),
    [
        ("", offline, "cannot be reached (Name or service not known): set docker_machine_iso_url"),
        ("", refuse(403), "answers 403 refused, which limits how often it is asked"),
        ("", MagicMock(), ""),
        (
            "https://example.org/b2d.iso",
            refuse(404),
            "docker_machine_iso_url is https://example.org/b2d.iso, which answers",
        ),
        ("https://example.org/b2d.iso", MagicMock(), ""),
        (
            "file:///nowhere/b2d.iso",
            offline,
            "docker_machine_iso_url is file:///nowhere/b2d.iso, and there is no such file",
        ),
        (f"file://{__file__}", offline, ""),
        (__file__, offline, ""),
    ],
)
def test_iso_can_be_had(tmp_path: Path, url: str, open_url: Any, expected: str) -> None:
    problems = virtualbox.iso_problems(url, tmp_path, open_url)
    assert len(problems) == bool(expected)
    assert expected in "".join(problems)


def test_the_system_is_not_asked_for_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request._opener", None)
    monkeypatch.setattr("urllib.request.getproxies", MagicMock(side_effect=AssertionError("kills a worker on macOS")))
    with virtualbox.open_url(urllib.request.Request(Path(__file__).as_uri()), timeout=5) as answer:  # noqa: S310  a file
        assert answer.read(1) == b"#"


def test_cached_iso_asks_nobody(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "boot2docker.iso").touch()
    assert virtualbox.iso_problems("", tmp_path, offline) == []


def stored(storage: Path, name: str, cluster: str, mode: int = 0o600) -> Store:
    store = Store(storage, name)
    store.directory.mkdir(parents=True)
    labels = [f"apiary.cluster={cluster}"] if cluster else []
    config = {"HostOptions": {"EngineOptions": {"Labels": labels}}, "Driver": {"HostOnlyCIDR": CIDR}}
    (store.directory / "config.json").write_text(json.dumps(config))
    store.key.touch()
    store.key.chmod(mode)
    return store


@pytest.mark.parametrize(
    ("cluster", "mode", "adopt", "expected"),
    [
        ("hive", 0o600, False, ""),
        ("", 0o600, False, "has a machine m1 that Apiary has not made"),
        ("other", 0o600, False, "has a machine m1 of the cluster other"),
        ("other", 0o600, True, ""),
        ("hive", 0o640, False, "has mode 0640: others may read it"),
    ],
)
def test_machine_that_is_there(tmp_path: Path, cluster: str, mode: int, adopt: bool, expected: str) -> None:
    problems = virtualbox.store_problems([stored(tmp_path, "m1", cluster, mode)], "hive", adopt=adopt)
    assert len(problems) == bool(expected)
    assert expected in "".join(problems)


def test_machine_that_is_not_there_is_no_problem(tmp_path: Path) -> None:
    assert virtualbox.store_problems([Store(tmp_path, "m1")], "hive", adopt=False) == []


def test_expired_authority_is_named_with_what_renews_it(tmp_path: Path) -> None:
    from tests.unit.test_docker_machine import certify

    store = stored(tmp_path, "m1", "hive")
    certify(store, ["192.168.59.31"])
    assert virtualbox.authority_problems(tmp_path, ["m1"]) == []
    later = datetime.now(UTC) + timedelta(days=1081)
    (problem,) = virtualbox.authority_problems(tmp_path, ["m1"], later)
    assert "docker-machine regenerate-certs -f --client-certs m1" in problem


@pytest.mark.parametrize(("version", "warned"), [("28.2.2", 0), ("29.0.1", 1), ("", 0), ("20.10.24", 0)])
def test_client_that_may_refuse_the_engine_is_warned_of(version: str, warned: int) -> None:
    assert len(virtualbox.client_warnings(version)) == warned


# The whole check, with programs that answer as the real ones do


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with VBoxManage and docker-machine, first in PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program(directory, "VBoxManage", "case $1 in --version) echo 7.0.20r163906 ;; esac")
    program(directory, "docker-machine", "echo docker-machine version 0.16.2, build bd45ab13")
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return directory


def program(directory: Path, name: str, script: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def check(storage: Path, *names: str, **given: Any) -> dict[str, Any]:
    made = action_module.ActionModule.__new__(action_module.ActionModule)
    machines = [
        {"name": name, "address": f"192.168.59.{30 + number}", "memory_mib": 1024, "disk_mib": 20000}
        for number, name in enumerate(names or ("m1", "m2"), 1)
    ]
    asked = {
        "machines": machines, "cluster": "hive", "storage_path": str(storage), "hostonly_cidr": CIDR,
        "iso_url": __file__, "no_vtx_check": True,
    }  # fmt: skip
    return made.outcome({name: option.get("default") for name, option in ARGUMENT_SPEC.items()} | asked | given, {})


def test_sound_inventory_passes_and_nothing_is_made(programs: Path, tmp_path: Path) -> None:
    result = check(tmp_path / "store")
    assert (result["missing"], result["version"]) == (["m1", "m2"], "0.16.2")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("name", "script", "expected"),
    [
        ("docker-machine", "echo docker-machine version 0.9.0, build 1", "is version 0.9.0: 0.16 or a fork"),
        ("docker-machine", "echo hello", "is version unknown"),
        ("docker-machine", "exit 1", "cannot tell its version"),
        ("VBoxManage", "echo 4.3.40r110317", "docker-machine needs 5 or newer"),
        ("VBoxManage", "echo WARNING: no vboxdrv; echo 7.0.20r163906", ""),
        ("VBoxManage", "echo broken", "VirtualBox is version broken"),
    ],
)
def test_program_that_does_not_fit(programs: Path, tmp_path: Path, name: str, script: str, expected: str) -> None:
    program(programs, name, script)
    if not expected:
        check(tmp_path / "store")
        return
    with pytest.raises(ApiaryError, match="Nothing has been changed") as raised:
        check(tmp_path / "store")
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    "version",
    [
        "docker-machine version dev, build bd45ab13",
        "docker-machine version 0.16.2-gitlab.37, build 5bf0d36",
        "rancher-machine version v0.15.0-rancher124, build x",
    ],
)
def test_forks_are_welcome(programs: Path, tmp_path: Path, version: str) -> None:
    program(programs, "docker-machine", f"echo '{version}'")
    check(tmp_path / "store")


def test_all_that_is_wrong_is_told_at_once(programs: Path, tmp_path: Path) -> None:
    for path in programs.iterdir():
        path.unlink()
    with pytest.raises(ApiaryError) as raised:
        check(tmp_path / "store", "my_vm1", "m2", iso_url="/nowhere.iso", hostonly_cidr="192.168.59.1/24")
    for part in (
        "'my_vm1' cannot be a host name",
        "docker_machine_executable is 'docker-machine'",
        "VBoxManage is not in PATH",
        "docker_machine_iso_url is /nowhere.iso",
    ):
        assert part in str(raised.value)


def test_machines_that_are_there_need_no_iso_memory_or_virtualization(programs: Path, tmp_path: Path) -> None:
    for name in ("m1", "m2"):
        (stored(tmp_path, name, "hive").directory / "server.pem").touch()
    assert check(tmp_path, iso_url="/nowhere.iso", no_vtx_check=False)["missing"] == []
