# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The program docker-machine 0.16: what it is asked, what its answers mean, and what is true of a machine's files.

Only what is meant for programs is read: ``inspect``, ``status``, ``ip``, and files whose layout all forks keep.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

#: label of the engine that says which cluster a machine was made for
CLUSTER_LABEL = "apiary.cluster"
#: a certificate with less time left than this is renewed
_RENEW = timedelta(days=30)
#: what docker-machine copies into a machine's directory when it provisions it
_PROVISIONED = ("ca.pem", "cert.pem", "key.pem", "server.pem", "server-key.pem")
#: variables that would change what is asked, or what the answer looks like
_MISLEADING = ("MACHINE_DEBUG", "MACHINE_DRIVER", "VIRTUALBOX_", "ENGINE_", "MACHINE_TLS_")

#: option of VirtualBox machines → flag of create, key in the machine's configuration, whether it shapes the machine
_VIRTUALBOX: dict[str, tuple[str, str, bool]] = {
    "memory_mib": ("--virtualbox-memory", "Memory", True),
    "cpus": ("--virtualbox-cpu-count", "CPU", True),
    "disk_mib": ("--virtualbox-disk-size", "DiskSize", True),
    "iso_url": ("--virtualbox-boot2docker-url", "Boot2DockerURL", False),
    "import_vm": ("--virtualbox-import-boot2docker-vm", "Boot2DockerImportVM", False),
    "hostonly_cidr": ("--virtualbox-hostonly-cidr", "HostOnlyCIDR", True),
    "hostonly_nictype": ("--virtualbox-hostonly-nictype", "HostOnlyNicType", True),
    "hostonly_nicpromisc": ("--virtualbox-hostonly-nicpromisc", "HostOnlyPromiscMode", True),
    "hostonly_no_dhcp": ("--virtualbox-hostonly-no-dhcp", "HostOnlyNoDHCP", True),
    "nat_nictype": ("--virtualbox-nat-nictype", "NatNicType", True),
    "host_dns_resolver": ("--virtualbox-host-dns-resolver", "HostDNSResolver", True),
    "no_dns_proxy": ("--virtualbox-no-dns-proxy", "DNSProxy", True),
    "no_share": ("--virtualbox-no-share", "NoShare", True),
    "share_folder": ("--virtualbox-share-folder", "ShareFolder", True),
    "no_vtx_check": ("--virtualbox-no-vtx-check", "NoVTXCheck", False),
    "ui_type": ("--virtualbox-ui-type", "UIType", False),
}
#: option of the engine → flag of create, and key in the machine's configuration
_ENGINE = {
    "engine_options": ("--engine-opt", "ArbitraryFlags"),
    "engine_labels": ("--engine-label", "Labels"),
    "engine_env": ("--engine-env", "Env"),
    "insecure_registries": ("--engine-insecure-registry", "InsecureRegistry"),
    "registry_mirrors": ("--engine-registry-mirror", "RegistryMirror"),
}
#: docker-machine puts these options into quoted strings of a remote shell
_UNQUOTABLE = re.compile(r"[$\"'`\\\n]")

#: what docker-machine or VBoxManage say → what it means and what to do
_REMEDIES: tuple[tuple[str, str], ...] = (
    (
        r"VBoxManage not found",
        "VirtualBox is not installed, or VBoxManage is not in PATH: install it from "
        "https://www.virtualbox.org/wiki/Downloads",
    ),
    (
        r"VT-X/AMD-v enabled|VT-x is (not available|disabled)|VERR_(VMX|SVM)_|NOT support HW virtualization",
        "this computer does not offer hardware virtualization: switch VT-x or AMD-V on in its firmware (BIOS), end "
        "other hypervisors (Hyper-V, KVM) that hold it, or use INVENTORY=qemu, which works without it. Where the "
        "check alone is wrong, docker_machine_virtualbox: {no_vtx_check: true} leaves it out",
    ),
    (
        r"We support Virtualbox starting with version 5",
        "VirtualBox is too old: install 5 or newer from https://www.virtualbox.org/wiki/Downloads",
    ),
    (
        r"E_ACCESSDENIED",
        "VirtualBox 6.1.28 and newer allows host-only networks in 192.168.56.0/21 alone: choose "
        "virtualbox_hostonly_cidr in it (192.168.59.1/24), or allow yours with a line '* 192.168.99.0/24' in "
        "/etc/vbox/networks.conf. Each try has left an adapter: 'VBoxManage list hostonlyifs', 'VBoxManage "
        "hostonlyif remove vboxnetN'",
    ),
    (
        r"cidr conflicts with the network address of a host interface",
        "a network interface of this computer has virtualbox_hostonly_cidr already: choose another range",
    ),
    (
        r"must be specified with a host address, not a network address",
        "virtualbox_hostonly_cidr names a network: give this computer's address in it, such as 192.168.59.1/24",
    ),
    (
        r"multiple host-only adapters with the same IP",
        "VirtualBox has several adapters with one address: see 'VBoxManage list hostonlyifs', and remove all but the "
        "one that machines use with 'VBoxManage hostonlyif remove vboxnetN'",
    ),
    (
        r"host-only adapter we just created is not visible",
        "VirtualBox did not make the host-only adapter: load its kernel modules (on Linux 'sudo modprobe vboxnetadp', "
        "on macOS allow Oracle's system extension), remove adapters without an address, and run again",
    ),
    (
        r"Could not find matching IP for MAC|Maximum number of retries \(5\) exceeded",
        "the machine got no address on the host-only network: see that no firewall blocks DHCP (UDP 67, 68) on the "
        "vboxnet adapter, remove stale servers ('VBoxManage list dhcpservers', 'VBoxManage dhcpserver remove "
        "--netname HostInterfaceNetworking-vboxnetN'), and run again",
    ),
    (
        r"rate limit(ed)? by Github|rate limit exceeded",
        "GitHub answers no more questions for the latest ISO within this hour: set docker_machine_iso_url to a file, "
        "such as file:///home/ann/boot2docker.iso, or put it to cache/boot2docker.iso in docker_machine_storage_path",
    ),
    (
        r"api\.github\.com|Downloading .*\n(.*\n)*.*(dial tcp|lookup |i/o timeout|404|no such file)|"
        r"in driver during machine creation: open .*no such file",
        "the boot2docker ISO cannot be had from where it should come from: set docker_machine_iso_url to a file that "
        "is there (file:///…/boot2docker.iso), or put it to cache/boot2docker.iso in docker_machine_storage_path",
    ),
    (
        r"Unable to verify the Docker daemon is listening",
        "the machine runs, but its engine does not listen on 2376: see the end of "
        "/var/lib/boot2docker/log/docker.log on it (docker-machine ssh NAME tail "
        "/var/lib/boot2docker/log/docker.log). 2376 must stay in DOCKER_HOST of /var/lib/boot2docker/profile: "
        "'docker-machine provision NAME' writes that file anew",
    ),
    (
        r"certificate is valid for",
        "its certificate is for another address: playbooks/machines.yml renews it, as does "
        "'docker-machine regenerate-certs -f NAME'",
    ),
    (
        r"certificate has expired",
        "a certificate has expired: playbooks/machines.yml renews a machine's; where the authority's or the client's "
        "has, 'docker-machine regenerate-certs -f --client-certs NAME' for each machine",
    ),
    (
        r"first record does not look like a TLS handshake",
        "the machine's API has no TLS (boot2docker_tls: false), so docker-machine's env, config, version and upgrade "
        "cannot work: use DOCKER_HOST=tcp://ADDRESS:4040, or set boot2docker_tls: true and run playbooks/machines.yml",
    ),
    (
        r"machine does not exist",
        "its VM was deleted in VirtualBox, behind docker-machine's back: run with -e docker_machine_recreate=true, "
        "which makes it anew and empty, or 'docker-machine rm -f NAME'",
    ),
    (
        r"Invalid hostname specified",
        "a name may have letters, digits, hyphens and dots, and no underscore: rename the host in the inventory",
    ),
    (
        r"(permissions|Permissions).* too open|UNPROTECTED PRIVATE KEY",
        "others may read the machine's SSH key, so ssh refuses it: chmod 600 the file id_rsa in its directory (in WSL, "
        "under /mnt, that takes 'options = \"metadata\"' in /etc/wsl.conf)",
    ),
    (
        r"Do you have the plugin binary",
        "docker-machine has no such driver: install its plugin into PATH, or correct the driver's name",
    ),
    (r"[Nn]o space left on device|VERR_DISK_FULL", "the disk of docker_machine_storage_path is full: make room there"),
    (
        r"Too many retries waiting for SSH|Maximum number of retries \(60\) exceeded",
        "the machine was started, but never answered over SSH: look at its console in VirtualBox, and see that it has "
        "memory and that virtualization works",
    ),
    (r"VERR_NO_MEMORY|not enough (free )?memory", "this computer lacks memory for it: lower docker_machine_memory_mib"),
)


@dataclass(frozen=True)
class Answer:
    """What a call said, and how it ended."""

    status: int
    out: str = ""
    err: str = ""

    @property
    def text(self) -> str:
        """The error, as a person would want to read it."""
        return (self.err.strip() or self.out.strip())[-2000:]


class TimedOutError(ApiaryError):
    """A call of docker-machine did not end in its time; it was ended."""


Run = Callable[[Sequence[str], Mapping[str, str], float], Answer]


def run_bounded(argv: Sequence[str], environment: Mapping[str, str], seconds: float, stdin: str = "") -> Answer:
    """Run a program for *seconds* at most; TimeoutError after that, and the program is ended.

    It stays in the process group of its caller, so whoever interrupts the one interrupts the other. Its output goes to
    files: a pipe would stay open for as long as anything that it has started lives.
    """
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(argv, env=dict(environment), stdin=given, stdout=out, stderr=err)
        try:
            status = process.wait(timeout=seconds)
        except BaseException as error:
            process.kill()
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise TimeoutError from None
            raise
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
    return Answer(status, *said)


class Tool:
    """docker-machine with one store of machines; each call has its time limit."""

    def __init__(self, executable: str, storage: Path, run: Run = run_bounded) -> None:
        self.executable = str(Path(executable).expanduser()) if executable.startswith("~") else executable
        self.storage = storage
        self._run = run

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_MISLEADING)}
        # By its flag, the path would not reach all of docker-machine. The other is the crash reporter: off.
        ours = {"MACHINE_STORAGE_PATH": str(self.storage), "MACHINE_BUGSNAG_API_TOKEN": "no-report"}
        if self.executable.endswith(".exe"):  # called from WSL: these cross over, and the path is translated
            ours["WSLENV"] = ":".join(
                [*filter(None, [kept.get("WSLENV")]), "MACHINE_STORAGE_PATH/p", "MACHINE_BUGSNAG_API_TOKEN"]
            )
        return kept | ours

    def ask(self, *arguments: str, seconds: float) -> Answer:
        """Call it and return what it says, whatever that is."""
        try:
            return self._run([self.executable, *arguments], self.environment, seconds)
        except (FileNotFoundError, PermissionError) as error:
            raise ApiaryError(missing(self.executable, error)) from error
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise TimedOutError(
                    f"'docker-machine {' '.join(arguments)}' had not ended after {seconds:g} s"
                ) from error
            raise ApiaryError(
                f"docker_machine_executable is {self.executable!r}, which cannot be run: {error}"
            ) from error

    def do(self, what: str, *arguments: str, seconds: float) -> Answer:
        """Call it to *what*, such as "make myvm1"; a failure is told with its remedy."""
        answer = self.ask(*arguments, seconds=seconds)
        if answer.status != 0:
            raise ApiaryError(explain(what, arguments, answer))
        return answer

    def version(self, seconds: float) -> str:
        """Its version, such as 0.16.2, or dev where somebody has built it; empty where it says none."""
        found = re.search(r"\bversion v?([^\s,]+)", self.do("tell its version", "--version", seconds=seconds).out)
        return found[1] if found else ""

    @contextmanager
    def locked(self, *, alone: bool) -> Iterator[None]:
        """Hold the store's lock: *alone* to make a machine, with others to start or stop one.

        docker-machine has no lock of its own: machines that are made at once get an authority and a host-only adapter
        each, and all fail.
        """
        self.storage.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.storage, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)


def missing(executable: str, error: OSError) -> str:
    """Say that there is no docker-machine, and how to get it."""
    return (
        f"docker_machine_executable is {executable!r}, which cannot be run here ({error.strerror}): install "
        "docker-machine 0.16.2, a single file from https://github.com/docker/machine/releases, or a fork of it, into "
        "PATH, or set docker_machine_executable to where it is"
    )


def explain(what: str, arguments: Sequence[str], answer: Answer) -> str:
    """Return the message on a call that failed: what was tried, what came back, what to do."""
    text = answer.text
    searched = f"{answer.out}\n{answer.err}"
    remedy = next((advice for pattern, advice in _REMEDIES if re.search(pattern, searched)), "")
    when = " in the check before anything is made" if answer.status == 3 else ""
    message = f"cannot {what}{when}: 'docker-machine {arguments[0]}' said (exit status {answer.status}): {text}"
    if remedy:
        message += f"\n{remedy}"
    if arguments[0] == "create" and answer.status not in (0, 3) and "already exists" not in text:
        message += "\nWhat it has left of the machine is removed by the next run, which makes it anew"
    return message


# What there is


class Store:
    """The files of a machine, as docker-machine lays them out."""

    def __init__(self, storage: Path, name: str) -> None:
        self.name = name
        self.storage = storage
        self.directory = storage / "machines" / name
        self.key = self.directory / "id_rsa"
        self.certificate = self.directory / "server.pem"

    @property
    def exists(self) -> bool:
        return self.directory.exists()

    @property
    def was_provisioned(self) -> bool:
        """Whether docker-machine came as far as to set its engine up: something may be kept on it."""
        return any((self.directory / name).exists() for name in _PROVISIONED)

    @property
    def is_whole(self) -> bool:
        return all((self.directory / name).exists() for name in _PROVISIONED)

    @property
    def disks(self) -> list[Path]:
        return sorted(self.directory.glob("*.vmdk"))

    def config(self) -> dict[str, Any]:
        """What docker-machine has written down of it, the document that ``inspect`` prints; empty if unreadable."""
        try:
            found = json.loads((self.directory / "config.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def cluster(self) -> str:
        """The cluster that it was made for, or none."""
        return cluster_of(self.config())

    def tls(self) -> dict[str, str]:
        return {
            "ca_path": str(self.directory / "ca.pem"),
            "client_cert": str(self.directory / "cert.pem"),
            "client_key": str(self.directory / "key.pem"),
        }

    def certificate_problem(self, address: str, now: datetime | None = None) -> str:
        """Say why the engine's certificate cannot be relied on at *address*; nothing if it can."""
        moment = now or datetime.now(UTC)
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            authority = x509.load_pem_x509_certificate((self.storage / "certs" / "ca.pem").read_bytes())
            client_authority = (self.directory / "ca.pem").read_bytes()
        except (OSError, ValueError) as error:
            return f"its certificate cannot be read ({error})"
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = [str(found) for found in names.get_values_for_type(x509.IPAddress)]
        if address not in addresses:
            return f"its certificate is for {' and '.join(addresses)}, not for {address}"
        end = certificate.not_valid_after_utc
        if end - moment < _RENEW:
            return f"its certificate {'expired' if end < moment else 'expires'} on {end:%Y-%m-%d}"
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            return f"its certificate is not from the authority in {self.storage / 'certs'}"
        if client_authority != (self.storage / "certs" / "ca.pem").read_bytes():
            return f"{self.directory / 'ca.pem'} is not the authority in {self.storage / 'certs'}"
        return ""


def cluster_of(config: Mapping[str, Any]) -> str:
    """Return the cluster that a machine's engine is labelled with."""
    labels = ((config.get("HostOptions") or {}).get("EngineOptions") or {}).get("Labels") or []
    found = (label.partition("=")[2] for label in labels if label.startswith(f"{CLUSTER_LABEL}="))
    return next(found, "")


def stores(storage: Path) -> list[Store]:
    """Return all machines that there are files of."""
    directory = storage / "machines"
    return [Store(storage, path.name) for path in sorted(directory.iterdir())] if directory.is_dir() else []


# What is asked of create


def create_arguments(
    driver: str, virtualbox: Mapping[str, Any], driver_options: Iterable[str], engine: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return the arguments of ``create`` but for the name."""
    arguments = ["create", "--driver", driver]
    for option, (flag, _key, _shapes) in _VIRTUALBOX.items():
        value = virtualbox.get(option)
        if value is True:
            arguments.append(flag)
        elif value not in (None, False, ""):
            arguments += [flag, str(value)]
    for option, (flag, _engine_key) in _ENGINE.items():
        for value in engine.get(option) or ():
            if _UNQUOTABLE.search(value):
                raise ApiaryError(
                    f"docker_machine_{option} has {value!r}: docker-machine puts it into a quoted string of a remote "
                    "shell, so it may not have $, quotes, backticks, backslashes or line breaks"
                )
            arguments += [flag, value]
    return [*arguments, *driver_options]


def differences(
    config: Mapping[str, Any], virtualbox: Mapping[str, Any], engine: Mapping[str, Sequence[str]]
) -> dict[str, list[Any]]:
    """Return what is asked and not so, and what docker-machine cannot change: option → what it is, what is wanted."""
    found: dict[str, list[Any]] = {}
    driver = config.get("Driver") or {}
    for option, (_flag, key, shapes) in _VIRTUALBOX.items():
        wanted = virtualbox.get(option)
        if not shapes or wanted is None or key not in driver or (option, wanted) == ("cpus", -1):
            continue
        has = not driver[key] if option == "no_dns_proxy" else driver[key]
        if has != wanted:
            found[option] = [has, wanted]
    settings = (config.get("HostOptions") or {}).get("EngineOptions") or {}
    for option, (_flag, key) in _ENGINE.items():
        has_all, wants = _without_cluster(settings.get(key)), _without_cluster(engine.get(option))
        if sorted(has_all) != sorted(wants):
            found[option] = [has_all, wants]
    return found


def _without_cluster(values: Iterable[str] | None) -> list[str]:
    """Return *values* but the cluster's label: a machine that was adopted has none, and goes on without."""
    return [value for value in values or [] if not value.startswith(f"{CLUSTER_LABEL}=")]
