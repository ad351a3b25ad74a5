# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""docker_machine: what it asks of docker-machine, and what it makes of answers that were recorded from 0.16.2."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.apiary.swarm.plugins.action import docker_machine as action_module
from ansible_collections.apiary.swarm.plugins.action import docker_machine_cluster
from ansible_collections.apiary.swarm.plugins.module_utils import boot2docker, docker_machine
from ansible_collections.apiary.swarm.plugins.module_utils.boot2docker import Guest
from ansible_collections.apiary.swarm.plugins.module_utils.docker_machine import Answer, Store, Tool
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.modules.docker_machine import ARGUMENT_SPEC
from ansible_collections.apiary.swarm.plugins.modules.docker_machine_cluster import ARGUMENT_SPEC as CLUSTER_SPEC

CIDR = "192.168.59.1/24"
FIXED = "192.168.59.31"
LEASED = "192.168.59.100"
NOT_THERE = (
    'Docker machine "m1" does not exist. Use "docker-machine ls" to list machines. '
    'Use "docker-machine create" to add a new one.'
)
NOT_LISTENING = "Unable to verify the Docker daemon is listening: Maximum number of retries (10) exceeded"
IN_DRIVER = "Error creating machine: Error in driver during machine creation: "
HOSTONLY = f"{IN_DRIVER}Error setting up host only network on machine start: "


class World:
    """docker-machine and its VirtualBox, with one machine at most; what is said is what was recorded."""

    def __init__(self, storage: Path) -> None:
        self.store = Store(storage, "m1")
        self.calls: list[list[str]] = []
        self.environment: Mapping[str, str] = {}
        self.vm = ""
        self.address = LEASED
        self.profile, self.bootsync, self.swarm = "", "", "inactive"
        #: how its engine was started; None for as docker-machine has it
        self.engine: str | None = None
        self.scripts: list[str] = []
        #: command → what it says instead; an exception is raised
        self.faults: dict[str, Answer | BaseException] = {}
        self.labels = ["apiary.cluster=hive"]

    # docker-machine

    def run(self, argv: Sequence[str], environment: Mapping[str, str], seconds: float) -> Answer:
        command, *rest = argv[1:]
        self.calls.append([command, *rest])
        self.environment = environment
        fault = self.faults.get(command)
        if isinstance(fault, BaseException):
            raise fault
        if command == "create":
            self.write_config("")
            if fault is None:
                self.vm = "Running"
                self.provision()
                self.write_config(self.address)
            return fault or Answer(0, "Docker is up and running!\n")
        if fault is not None:
            return fault
        if command == "--version":
            return Answer(0, "docker-machine version 0.16.2, build bd45ab13\n")
        if not self.store.exists:
            return Answer(1, "", NOT_THERE + "\n")
        answer: Answer = getattr(self, command.replace("-", "_"))()
        return answer

    def inspect(self) -> Answer:
        path = self.store.directory / "config.json"
        return (
            Answer(0, path.read_text()) if path.exists() else Answer(1, "", f"open {path}: no such file or directory")
        )

    def ip(self) -> Answer:
        return (
            Answer(0, f"{self.address}\n")
            if self.vm == "Running"
            else Answer(1, "", f"Error getting IP address: {self.why}")
        )

    def status(self) -> Answer:
        return Answer(0, f"{self.vm}\n") if self.vm else Answer(1, "", f"error getting state for host m1: {self.why}")

    @property
    def why(self) -> str:
        return "Host is not running" if self.vm else "machine does not exist"

    def start(self) -> Answer:
        if self.vm == "Running":
            return Answer(1, 'Starting "m1"...\n', 'Machine "m1" is already running.\n')
        if not self.vm:
            return Answer(1, 'Starting "m1"...\n', "machine does not exist\n")
        self.vm = "Running"
        self.address = FIXED if FIXED in self.bootsync else LEASED
        self.write_config(self.address)
        return Answer(0, 'Machine "m1" was started.\n')

    def stop(self) -> Answer:
        self.vm = "Stopped"
        self.write_config("")  # an empty address does not tell a half-made machine from a stopped one
        return Answer(0, 'Machine "m1" was stopped.\n')

    kill = stop

    def rm(self) -> Answer:
        for path in sorted(self.store.directory.rglob("*"), reverse=True):
            path.unlink()
        self.store.directory.rmdir()
        self.vm = ""
        return Answer(0, "Successfully removed m1\n")

    def provision(self) -> Answer:
        self.profile = "DOCKER_HOST='-H tcp://0.0.0.0:2376'\nDOCKER_TLS=auto\n"
        certify(self.store, [self.address])
        return Answer(0, "Setting Docker configuration on the remote daemon...\n")

    regenerate_certs = provision

    # what it keeps, and the guest

    def write_config(self, address: str) -> None:
        self.store.directory.mkdir(parents=True, exist_ok=True)
        driver = {
            "IPAddress": address, "SSHUser": "docker", "SSHPort": 39793, "CPU": 1, "Memory": 1024, "DiskSize": 20000,
            "HostOnlyCIDR": CIDR, "NatNicType": "82540EM", "DNSProxy": True, "NoShare": False, "Boot2DockerURL": "",
        }  # fmt: skip
        engine = {"ArbitraryFlags": [], "Env": [], "InsecureRegistry": [], "Labels": self.labels, "RegistryMirror": []}
        config = {"Name": "m1", "Driver": driver, "HostOptions": {"EngineOptions": engine}}
        (self.store.directory / "config.json").write_text(json.dumps(config))

    def ssh(self, argv: Sequence[str], environment: Mapping[str, str], seconds: float, script: str) -> Answer:
        if "say profile" in script:
            interfaces = f"2: eth0    inet 10.0.2.15/24\n3: eth1    inet {self.address}/24 brd 192.168.59.255\n"
            engine = self.engine if self.engine is not None else "dockerd\n-H\ntcp://0.0.0.0:2376\n"
            said = {"profile": self.profile, "bootsync": self.bootsync, "interfaces": interfaces, "engine": engine}
            return Answer(
                0, "".join(f"{word} {base64.b64encode(text.encode()).decode()}\n" for word, text in said.items())
            )
        if "docker info" in script:
            return Answer(0, f"{self.swarm}\n")
        self.scripts.append(script)
        if "profile.new" in script:
            self.profile = base64.b64decode(script.split("END'")[1].split("\n")[1]).decode()
        if "bootsync.sh" in script:
            self.bootsync = base64.b64decode(script.split("\n")[1]).decode()
        return Answer(0)

    @property
    def asked(self) -> list[str]:
        return [" ".join(call).removesuffix(" m1") for call in self.calls]


_KEYS: dict[str, Any] = {}


def certify(store: Store, addresses: list[str], *, days: int = 1080, own: str = "authority") -> None:
    """Make the files of a provisioned machine."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(key: Any, subject: str, days: int, signer: str) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, signer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2000))
            .not_valid_after(now + datetime.timedelta(days=days))
        )
        names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        signed = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return signed.sign(_KEYS[signer], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    for name in ("authority", "other", "server"):
        _KEYS.setdefault(name, ec.generate_private_key(ec.SECP256R1()))
    certs = store.storage / "certs"
    certs.mkdir(exist_ok=True)
    if not (certs / "ca.pem").exists():
        (certs / "ca.pem").write_bytes(certificate(_KEYS["authority"], "authority", 1080, "authority"))
    for name in ("cert.pem", "key.pem", "server-key.pem"):
        (store.directory / name).write_text("key")
    (store.directory / "ca.pem").write_bytes((certs / "ca.pem").read_bytes())
    store.certificate.write_bytes(certificate(_KEYS["server"], "m1", days, own))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "store")


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(action_module, "Display", lambda: MagicMock(warning=told.append))
    return told


def parameters(spec: Mapping[str, Any], **given: Any) -> dict[str, Any]:
    return {name: option.get("default") for name, option in spec.items()} | given


def converge(world: World, check: bool = False, **given: Any) -> dict[str, Any]:
    class Action(action_module.ActionModule):
        @staticmethod
        def make_tool(executable: str, storage: Path) -> Tool:
            return Tool(executable, storage, world.run)

        @staticmethod
        def make_guest(name: str, address: str, directory: Path, user: str) -> Guest:
            return Guest(name, address, directory, user, run=world.ssh)

    made = Action.__new__(Action)
    made._task = MagicMock(check_mode=check, diff=False)
    world.calls.clear()
    asked = {"name": "m1", "storage_path": str(world.store.storage), "engine_labels": ["apiary.cluster=hive"]} | given
    outcome: dict[str, Any] = made.outcome(parameters(ARGUMENT_SPEC, **asked), {})
    return outcome


@pytest.fixture
def whole(world: World) -> World:
    """A world with a machine that runs at its fixed address."""
    converge(world, fixed_address=FIXED)
    return world


# The life of a machine


def test_first_run_makes_fixes_the_address_and_renews_the_certificate_in_this_order(world: World) -> None:
    result = converge(world, fixed_address=FIXED, virtualbox={"memory_mib": 2048, "hostonly_cidr": CIDR})
    assert result["actions"] == [
        "make and start the machine",
        f"fix its address to {FIXED}",
        f"restart it, from {LEASED} to {FIXED}",
        f"renew the certificate: its certificate is for {LEASED}, not for {FIXED}",
    ]
    assert (result["state"], result["address"]) == ("running", FIXED)
    changing = [call.split()[0] for call in world.asked if call.split()[0] not in ("inspect", "ip", "status")]
    assert changing == ["--version", "create", "stop", "start", "regenerate-certs"]
    assert (
        "create --driver virtualbox --virtualbox-memory 2048 --virtualbox-hostonly-cidr 192.168.59.1/24"
        in " | ".join(world.asked)
    )


def test_next_run_changes_nothing_with_two_calls(whole: World) -> None:
    result = converge(whole, fixed_address=FIXED)
    assert (result["changed"], result["actions"]) == (False, [])
    assert whole.asked == ["inspect", "ip"]


def test_check_before_the_first_run_says_what_would_be_made_and_makes_nothing(world: World) -> None:
    result = converge(world, check=True, fixed_address=FIXED)
    assert (result["changed"], result["actions"], result["address"]) == (True, ["make and start the machine"], "")
    assert world.asked == ["inspect"]
    assert not world.store.storage.exists()


@pytest.mark.parametrize("state", ["Stopped", "Saved", "Paused"])
def test_machine_that_does_not_run_is_started(whole: World, state: str) -> None:
    whole.stop()
    whole.vm = state
    assert converge(whole, fixed_address=FIXED)["actions"] == ["start the machine"]
    assert whole.vm == "Running"


@pytest.mark.parametrize(
    ("state", "before", "actions", "after"),
    [
        ("present", "Stopped", [], "Stopped"),
        ("present", "Running", [], "Running"),
        ("stopped", "Running", ["stop the machine"], "Stopped"),
        ("stopped", "Stopped", [], "Stopped"),
        ("restarted", "Running", ["stop the machine", "start the machine"], "Running"),
        ("restarted", "Stopped", ["start the machine"], "Running"),
        ("absent", "Running", ["remove the machine"], ""),
        ("absent", "Stopped", ["remove the machine"], ""),
    ],
)
def test_states_are_reached_once(whole: World, state: str, before: str, actions: list[str], after: str) -> None:
    whole.vm = before
    assert converge(whole, check=True, state=state)["actions"] == actions
    assert whole.vm == before
    assert converge(whole, state=state)["actions"] == actions
    assert whole.vm == after
    if state != "restarted":
        assert converge(whole, state=state)["changed"] is False


def test_nothing_is_made_where_nothing_may_be(world: World) -> None:
    assert converge(world, state="stopped", create=False)["actions"] == []
    with pytest.raises(ApiaryError, match=r"no machine m1 to start: playbooks/site\.yml makes it"):
        converge(world, state="started", create=False)
    assert "create" not in [call[0] for call in world.calls]


def test_machine_that_is_there_stops_and_starts_though_nothing_may_be_made(whole: World) -> None:
    assert converge(whole, state="stopped", create=False)["actions"] == ["stop the machine"]
    assert converge(whole, state="started", create=False, fixed_address=FIXED)["actions"] == ["start the machine"]


def test_removing_what_is_not_there_is_no_change(world: World) -> None:
    assert converge(world, state="absent")["changed"] is False


def test_somebody_who_was_faster_is_no_error(whole: World) -> None:
    whole.vm = "Stopped"
    whole.faults["start"] = Answer(1, 'Starting "m1"...\n', 'Machine "m1" is already running.\n')
    assert converge(whole)["actions"] == ["start the machine"]


def test_crash_reporter_is_off_and_the_store_is_told_by_the_environment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MACHINE_DEBUG", "1")
    monkeypatch.setenv("VIRTUALBOX_MEMORY_SIZE", "64")
    converge(world)
    assert world.environment["MACHINE_BUGSNAG_API_TOKEN"] == "no-report"  # noqa: S105  no secret
    assert world.environment["MACHINE_STORAGE_PATH"] == str(world.store.storage)
    assert not {"MACHINE_DEBUG", "VIRTUALBOX_MEMORY_SIZE"} & set(world.environment)


def test_from_wsl_the_store_is_handed_over_to_windows(tmp_path: Path) -> None:
    environment = Tool("docker-machine.exe", tmp_path).environment
    assert environment["WSLENV"].endswith("MACHINE_STORAGE_PATH/p:MACHINE_BUGSNAG_API_TOKEN")


def test_machine_that_is_only_to_be_there_is_made_and_left_as_it_is(world: World) -> None:
    result = converge(world, state="present", fixed_address=FIXED)
    assert (result["actions"], result["address"]) == (["make and start the machine"], LEASED)


# Half-made machines


def test_what_a_failed_create_left_is_made_anew(world: World) -> None:
    world.faults["create"] = Answer(1, "Creating machine...\n", f"{IN_DRIVER}something\n")
    with pytest.raises(ApiaryError, match="removed by the next run"):
        converge(world)
    world.vm = "Stopped"
    world.faults.clear()
    assert converge(world)["actions"] == ["remove what is left of the machine", "make and start the machine"]


def test_what_a_killed_create_left_without_a_configuration_is_made_anew(world: World) -> None:
    world.store.directory.mkdir(parents=True)
    assert converge(world)["actions"][-1] == "make and start the machine"
    assert ["rm", "-y", "-f", "m1"] in world.calls


def test_machine_that_was_provisioned_is_never_made_anew_for_a_lost_file(whole: World) -> None:
    whole.store.certificate.unlink()
    whole.vm = "Stopped"
    assert converge(whole, fixed_address=FIXED)["actions"] == ["start the machine", "provision the machine"]
    assert "create" not in " ".join(whole.asked)


def test_machine_whose_engine_was_never_set_up_is_finished(whole: World) -> None:
    whole.profile = ""
    assert converge(whole, fixed_address=FIXED)["actions"] == ["provision the machine"]


def test_configuration_that_is_lost_is_told_and_nothing_removed(whole: World) -> None:
    (whole.store.directory / "config.json").unlink()
    with pytest.raises(ApiaryError, match=r"Put config\.json back"):
        converge(whole)
    assert whole.store.was_provisioned


# What is not trusted, and what is not changed


def test_address_that_was_written_down_is_not_believed(whole: World) -> None:
    whole.address = "192.168.59.104"  # the lease has changed since
    whole.bootsync = ""
    result = converge(whole)
    assert result["address"] == "192.168.59.104"
    assert result["actions"] == [f"renew the certificate: its certificate is for {FIXED}, not for 192.168.59.104"]


def test_lost_pin_is_set_again_without_a_restart_where_the_address_is_right(whole: World) -> None:
    whole.bootsync = "#!/bin/sh\necho mine\n"
    assert converge(whole, fixed_address=FIXED)["actions"] == [f"fix its address to {FIXED}"]
    assert whole.bootsync.endswith("echo mine\n")


def test_machine_of_a_swarm_does_not_get_another_address(whole: World) -> None:
    whole.swarm = f"active {FIXED}"
    with pytest.raises(ApiaryError, match=r"is in a swarm as 192\.168\.59\.31.*docker swarm leave"):
        converge(whole, fixed_address="192.168.59.40")
    assert "192.168.59.40" not in whole.bootsync


def test_machine_gets_the_address_back_that_its_swarm_knows(whole: World) -> None:
    whole.swarm, whole.bootsync, whole.address = f"active {FIXED}", "", LEASED
    assert converge(whole, fixed_address=FIXED)["actions"][0] == f"fix its address to {FIXED}"
    assert whole.address == FIXED


def test_engine_that_waits_for_the_address_does_not_keep_it_from_being_set(whole: World) -> None:
    """With its pin lost, the engine cannot listen on the address, and docker-machine's start fails for that."""
    whole.stop()
    whole.bootsync, whole.swarm = "", f'{{"LocalAddr":"{FIXED}","AdvertiseAddr":"{FIXED}:2377"}}'
    start = whole.start

    def started() -> Answer:
        start()
        return Answer(0 if FIXED in whole.bootsync else 1, "", "" if FIXED in whole.bootsync else NOT_LISTENING)

    whole.start = started  # type: ignore[method-assign]
    assert converge(whole, fixed_address=FIXED)["actions"][0] == "start the machine"
    assert whole.address == FIXED


def test_swarm_of_an_engine_that_is_down_is_known(whole: World) -> None:
    whole.swarm = f'{{"LocalAddr":"{FIXED}","AdvertiseAddr":"{FIXED}:2377"}}'
    with pytest.raises(ApiaryError, match=rf"is in a swarm as {FIXED}"):
        converge(whole, fixed_address="192.168.59.40")


def test_engine_that_listens_on_the_old_address_alone_does_not_keep_the_machine_from_moving(whole: World) -> None:
    whole.profile = f"DOCKER_TLS=no\nDOCKER_HOST='-H tcp://{FIXED}:2376'\n"
    profiles: list[str] = []
    stop = whole.stop

    def stopped() -> Answer:
        profiles.append(whole.profile)
        return stop()

    whole.stop = stopped  # type: ignore[method-assign]
    with pytest.raises(ApiaryError, match="after its restart"):  # the fake one knows one address only
        converge(whole, fixed_address="192.168.59.40")
    assert profiles == ["DOCKER_TLS=auto\nDOCKER_HOST='-H tcp://0.0.0.0:2376'\n"]


@pytest.mark.parametrize(("profile", "expected"), [("", "docker start"), ("DOCKER_TLS=no\n", "profile.new")])
def test_engine_is_started_before_docker_machine_waits_for_it(whole: World, profile: str, expected: str) -> None:
    whole.profile, whole.engine = profile, ""
    whole.store.certificate.unlink()
    whole.scripts.clear()
    assert converge(whole, fixed_address=FIXED)["actions"] == ["provision the machine"]
    assert [script for script in whole.scripts if expected in script]


def test_address_outside_of_its_network_is_refused(whole: World) -> None:
    with pytest.raises(ApiaryError, match=r"virtualbox_hostonly_cidr back to 192\.168\.59\.1/24"):
        converge(whole, fixed_address="192.168.60.31")


def test_address_that_does_not_hold_is_told(world: World) -> None:
    world.start = lambda: setattr(world, "vm", "Running") or Answer(0)  # type: ignore[method-assign,func-returns-value]
    with pytest.raises(ApiaryError, match=r"has the address 192\.168\.59\.100 after its restart"):
        converge(world, fixed_address=FIXED)


@pytest.mark.parametrize(
    ("virtualbox", "pending"),
    [
        ({"memory_mib": 2048, "cpus": 1}, {"memory_mib": [1024, 2048]}),
        ({"disk_mib": 40000, "no_dns_proxy": True}, {"disk_mib": [20000, 40000], "no_dns_proxy": [False, True]}),
        ({"cpus": -1, "iso_url": "file:///other.iso", "no_vtx_check": True}, {}),
        ({"hostonly_cidr": CIDR, "nat_nictype": None, "no_share": False}, {}),
    ],
)
def test_what_cannot_be_changed_is_told(
    whole: World, warnings: list[str], virtualbox: dict[str, Any], pending: dict[str, Any]
) -> None:
    result = converge(whole, virtualbox=virtualbox)
    assert (result["pending"], result["changed"]) == (pending, False)
    assert len(warnings) == len(pending)
    again = converge(whole, virtualbox=virtualbox, recreate=True)
    assert again["actions"] == (["remove what is left of the machine", "make and start the machine"] if pending else [])


def test_other_labels_are_told(whole: World, warnings: list[str]) -> None:
    assert converge(whole, engine_labels=["disk=ssd"])["pending"] == {"engine_labels": [[], ["disk=ssd"]]}


def test_machine_of_another_cluster_is_not_made_anew_for_its_label(whole: World) -> None:
    assert converge(whole, engine_labels=["apiary.cluster=other"], recreate=True)["changed"] is False


@pytest.mark.parametrize("value", ["a=$HOME", 'a="b"', "a='b'", "a=`id`", "a=b\\"])
def test_what_would_be_read_by_the_remote_shell_is_refused(world: World, value: str) -> None:
    with pytest.raises(ApiaryError, match="docker_machine_engine_env"):
        converge(world, engine_env=[value])
    assert "create" not in " ".join(world.asked)


@pytest.mark.parametrize(
    "directory", ["/home/docker/data", "/var/lib/boot2docker/../x", "/var/lib/boot2docker", "/data"]
)
def test_data_that_would_be_lost_is_refused(world: World, directory: str) -> None:
    with pytest.raises(ApiaryError, match="is RAM on a boot2docker machine"):
        converge(world, fixed_address=FIXED, data_directories=[directory])
    assert world.asked == ["inspect"]


def test_other_drivers_get_their_options_as_they_are(world: World) -> None:
    converge(world, driver="generic", virtualbox={"memory_mib": 1}, driver_options=["--generic-ip-address", "10.0.0.7"])
    assert [
        *("create", "--driver", "generic", "--engine-label", "apiary.cluster=hive"),
        *("--generic-ip-address", "10.0.0.7", "m1"),
    ] in world.calls


# Certificates


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ({"addresses": [FIXED]}, ""),
        ({"addresses": [LEASED]}, f"its certificate is for {LEASED}, not for {FIXED}"),
        ({"addresses": [FIXED], "days": -1}, "its certificate expired on"),
        ({"addresses": [FIXED], "days": 20}, "its certificate expires on"),
        ({"addresses": [FIXED], "own": "other"}, "is not from the authority in"),
    ],
)
def test_certificate_that_cannot_be_relied_on_is_renewed(whole: World, made: dict[str, Any], expected: str) -> None:
    certify(whole.store, **made)
    problem = whole.store.certificate_problem(FIXED)
    assert expected in problem
    assert bool(problem) == bool(expected)
    renewed = [action for action in converge(whole, fixed_address=FIXED)["actions"] if "renew" in action]
    assert bool(renewed) == bool(expected)


def test_authority_that_was_made_anew_is_noticed(whole: World) -> None:
    (whole.store.storage / "certs" / "ca.pem").unlink()
    other = Store(whole.store.storage, "m2")
    other.directory.mkdir()
    certify(other, [FIXED])
    assert "ca.pem is not the authority" in whole.store.certificate_problem(FIXED)


# Failures as they were recorded


#: command and exit status · what it says · a part of the remedy
FAILURES = f"""
create 3 · VBoxManage not found. Make sure VirtualBox is installed · install it from https://www.virtualbox.org
create 3 · This computer doesn't have VT-X/AMD-v enabled. Enabling it in the BIOS · switch VT-x or AMD-V on
create 1 · {IN_DRIVER}VBoxManage: error: VT-x is not available (VERR_VMX_NO_VMX) · switch VT-x or AMD-V on
create 3 · We support Virtualbox starting with version 5. Your VirtualBox install is "4.1" · install 5 or newer
create 1 · {HOSTONLY}VBoxManage: error: Code E_ACCESSDENIED (0x80070005) - Access denied · '* 192.168.99.0/24'
create 1 · {HOSTONLY}host-only cidr conflicts with the network address of a host interface · choose another range
create 1 · {HOSTONLY}host-only cidr must be specified with a host address, not a network address · such as 192.168.59
create 3 · VirtualBox is configured with multiple host-only adapters with the same IP · remove vboxnetN
create 1 · {HOSTONLY}The host-only adapter we just created is not visible. · modprobe vboxnetadp
create 1 · {IN_DRIVER}Maximum number of retries (5) exceeded · firewall blocks DHCP
create 3 · "Get api.github.com/repos/boot2docker: dial tcp: lookup: no such host · docker_machine_iso_url
create 3 · failure getting a version tag (are you getting rate limited by Github?) · GitHub answers no more
create 1 · {IN_DRIVER}open /nope.iso: no such file or directory · docker_machine_iso_url
create 1 · Error creating machine: Invalid hostname specified. · no underscore
create 1 · Driver "x" not found. Do you have the plugin binary "docker-machine-driver-x" · install its plugin
start 1 · Unable to verify the Docker daemon is listening: Maximum number of retries (10) · does not listen on 2376
start 1 · {IN_DRIVER}Maximum number of retries (60) exceeded · never answered over SSH
regenerate-certs 1 · x509: certificate has expired or is not yet valid · --client-certs
stop 1 · Permissions 0644 for 'id_rsa' are too open. · chmod 600
"""


@pytest.mark.parametrize("failure", FAILURES.strip().splitlines())
def test_failure_is_told_with_its_remedy(world: World, failure: str) -> None:
    call, text, remedy = failure.split(" · ")
    command, status = call.split()
    if command != "create":
        converge(world, fixed_address=FIXED)
        world.vm = "Stopped" if command == "start" else "Running"
        if command == "stop":
            world.bootsync, world.address = "", LEASED
        if command == "regenerate-certs":
            certify(world.store, [LEASED])
    world.faults[command] = Answer(int(status), "", f"{text}\n")
    with pytest.raises(ApiaryError) as raised:
        converge(world, fixed_address=FIXED)
    assert f"'docker-machine {command}' said (exit status {status}): {text}" in str(raised.value)
    assert remedy in str(raised.value)


def test_vm_that_was_deleted_is_told_and_made_anew_when_asked_for(whole: World) -> None:
    whole.vm = ""
    with pytest.raises(ApiaryError, match=r"deleted in VirtualBox.*docker_machine_recreate=true"):
        converge(whole, fixed_address=FIXED)
    assert "make and start the machine" in converge(whole, fixed_address=FIXED, recreate=True)["actions"]


def test_machine_without_a_lease_is_told(whole: World) -> None:
    whole.faults["ip"] = Answer(1, "", "Could not find matching IP for MAC address 08:00:27:aa:bb:cc")
    with pytest.raises(ApiaryError, match="runs, but docker-machine cannot tell its address"):
        converge(whole, fixed_address=FIXED)


def test_missing_program_is_told_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ApiaryError, match=r"docker_machine_executable is '/nowhere/dm'.*releases"):
        Tool("/nowhere/dm", tmp_path).ask("ls", seconds=5)


@pytest.mark.parametrize(
    ("command", "variable"),
    [("create", "create"), ("start", "start"), ("stop", "stop"), ("inspect", "query"), ("ip", "query")],
)
def test_call_that_never_ends_is_ended_and_told(world: World, command: str, variable: str) -> None:
    if command != "create":
        converge(world, fixed_address=FIXED)
        world.vm = "Running" if command != "start" else "Stopped"
    world.faults[command] = TimeoutError()
    with pytest.raises(ApiaryError, match=rf"had not ended after \d+ s \(docker_machine_{variable}_timeout_seconds\)"):
        converge(world, state="stopped" if command == "stop" else "started")


def test_plug_is_pulled_only_when_asked_for(whole: World) -> None:
    whole.faults["stop"] = TimeoutError()
    with pytest.raises(ApiaryError, match="docker_machine_force_stop=true"):
        converge(whole, state="stopped")
    assert whole.vm == "Running"
    assert converge(whole, state="stopped", force_stop=True)["actions"] == [
        "stop the machine",
        "pull the machine's plug",
    ]
    assert whole.vm == "Stopped"


# Looking only


@pytest.mark.parametrize(
    ("disturb", "told"),
    [
        (lambda world: None, ""),
        (lambda world: setattr(world, "vm", "Stopped"), "m1: is not running, but stopped"),
        (lambda world: setattr(world, "vm", ""), "m1: is not running, but gone"),
        (lambda world: setattr(world, "address", LEASED), f"m1: has the address {LEASED}, not {FIXED}"),
        (lambda world: certify(world.store, [FIXED], days=-1), "m1: its certificate expired"),
        (lambda world: world.faults.update(ip=TimeoutError()), "had not ended after"),
    ],
)
def test_looking_changes_nothing_and_warns(
    whole: World, warnings: list[str], disturb: Callable[[World], None], told: str
) -> None:
    disturb(whole)
    result = converge(whole, state="observed", fixed_address=FIXED)
    assert result["changed"] is False
    assert set(whole.asked) <= {"inspect", "ip", "status"}
    assert len(warnings) == bool(told)
    assert told in "".join(warnings)


# Running the program


def test_program_that_hangs_is_ended_though_its_children_live() -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        docker_machine.run_bounded(["sh", "-c", "sleep 4 & sleep 60"], os.environ, 0.3)
    assert time.monotonic() - started < 3


def test_what_a_program_says_comes_back_whole() -> None:
    script = "import sys; print('x' * 200000); sys.stderr.write(sys.stdin.read()); sys.exit(3)"
    answer = docker_machine.run_bounded([sys.executable, "-c", script], os.environ, 20, "given")
    assert (answer.status, len(answer.out), answer.err) == (3, 200001, "given")


def test_machines_are_made_one_after_another_and_started_together(tmp_path: Path) -> None:
    inside, most = 0, {True: 0, False: 0}
    guard = threading.Lock()

    def hold(alone: bool) -> None:
        nonlocal inside
        with Tool("docker-machine", tmp_path).locked(alone=alone):
            with guard:
                inside += 1
                most[alone] = max(most[alone], inside)
            time.sleep(0.05)
            with guard:
                inside -= 1

    for alone in (True, False):
        threads = [threading.Thread(target=hold, args=(alone,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most[True] == 1
    assert most[False] > 1
    assert list(tmp_path.iterdir()) == []


# Removal of a cluster


def test_removal_takes_what_was_made_for_the_cluster_and_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    for name, label in {"m1": "hive", "m7": "hive", "m2": "", "m3": "other"}.items():
        world = World(tmp_path)
        world.store = Store(tmp_path, name)
        world.labels = [f"apiary.cluster={label}"] if label else []
        world.write_config(FIXED)
    monkeypatch.setattr(docker_machine_cluster, "remove", lambda tool, store, seconds: removed.append(store.name))
    made = docker_machine_cluster.ActionModule.__new__(docker_machine_cluster.ActionModule)
    made._task = MagicMock(check_mode=False, diff=False)
    asked = parameters(CLUSTER_SPEC, cluster="hive", names=["m1", "m2"], storage_path=str(tmp_path))
    result = made.outcome(asked, {})
    assert sorted(removed) == result["removed"] == ["m1", "m7"]
    assert result["foreign"] == ["m2"]
    assert made.outcome(asked | {"adopt": True}, {})["removed"] == ["m1", "m2", "m7"]
    assert made.outcome(asked | {"only_named": True}, {})["removed"] == ["m1"]


# The fixed address


def test_users_part_of_bootsync_stays() -> None:
    mine = "#!/bin/sh\nset -x\necho mine\n"
    pinned = boot2docker.pinned_bootsync(mine, "eth1", FIXED, 24)
    assert pinned.startswith("#!/bin/sh\n# apiary")
    assert pinned.endswith("set -x\necho mine\n")
    assert f"ip addr add {FIXED}/24 broadcast + dev eth1" in pinned
    assert boot2docker.pinned_bootsync(pinned, "eth1", FIXED, 24) == pinned


def test_another_address_replaces_our_part_alone() -> None:
    pinned = boot2docker.pinned_bootsync("echo mine\n", "eth1", FIXED, 24)
    other = boot2docker.pinned_bootsync(pinned, "eth1", "192.168.59.40", 24)
    assert other == pinned.replace(FIXED, "192.168.59.40")
