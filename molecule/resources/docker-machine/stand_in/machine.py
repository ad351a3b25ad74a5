# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The commands of docker-machine 0.16.2: what each prints, and how it ends."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stand_in import provision
from stand_in.certificates import HandshakeError, engine_version
from stand_in.drivers import NOT_RUNNING, MachineError, wait
from stand_in.go_text import TemplateError, natural, render, table, to_json
from stand_in.log import log
from stand_in.settings import fault
from stand_in.store import DRIVERS, Machine, Store
from stand_in.usage import COMMANDS, DRIVER_FLAGS, SHARED_FLAGS, Arguments, Command, UsageError, parse
from stand_in.virtualbox import VirtualBox

_VERSION = "docker-machine version 0.16.2, build bd45ab13"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-.]*")
_LIST = (
    "table {{.Name}}\t{{.Active}}\t{{.DriverName}}\t{{.State}}\t{{.URL}}\t{{.Swarm}}\t{{.DockerVersion}}\t{{.Error}}"
)
_HEADERS = {
    "Name": "NAME",
    "Active": "ACTIVE",
    "ActiveHost": "ACTIVE_HOST",
    "ActiveSwarm": "ACTIVE_SWARM",
    "DriverName": "DRIVER",
    "State": "STATE",
    "URL": "URL",
    "SwarmOptions": "SWARM_OPTIONS",
    "Swarm": "SWARM",
    "EngineOptions": "ENGINE_OPTIONS",
    "Error": "ERRORS",
    "DockerVersion": "DOCKER",
    "ResponseTime": "RESPONSE",
}


class PreCreateError(MachineError):
    """The pre-create check has failed: the status is 3."""


class CommandLine:
    """One call of docker-machine."""

    def __init__(self, store: Store, command_line: Sequence[str]) -> None:
        self.store = store
        self.command_line = list(command_line)
        self.help = ""

    def run(self, command: str, arguments: list[str]) -> None:
        if fault("hangs") == command:
            while True:
                time.sleep(3600)
        if command == "stand-in-clear":
            VirtualBox().call(["stand-in-clear"])
            shutil.rmtree(self.store.path, ignore_errors=True)
            return
        if command not in COMMANDS:
            raise MachineError(
                f"docker-machine: '{command}' is not a docker-machine command. See 'docker-machine --help'."
            )
        self.help = COMMANDS[command].help(command)
        if command in ("create", "ssh"):  # these read their flags themselves, or not at all
            {"create": self.create, "ssh": self.ssh}[command](arguments)
            return
        try:
            given = parse(arguments, COMMANDS[command].flags)
        except UsageError as error:
            print(f"Incorrect Usage.\n\n{self.help}", end="")
            log.error(error)  # and that is all: the status is 0
            return
        if given.wants_help:
            print(self.help, end="")
            return
        simple = {
            "ip": self._print_ip,
            "kill": _kill,
            "provision": provision.provision,
            "stop": _stop,
            "upgrade": _upgrade,
        }
        if command in simple:
            self.for_each(given, simple[command])
        else:
            getattr(self, command.replace("-", "_"))(given)

    # Which machines

    def _target(self, words: Sequence[str], only_one: bool = False) -> Machine:
        if only_one and len(words) > 1:
            raise MachineError("Error: Expected one machine name as an argument")
        if words:
            return self.store.load(words[0])
        if not self.store.exists("default"):
            raise MachineError('Error: No machine name(s) specified and no "default" machine exists')
        return self.store.load("default")

    def for_each(self, given: Arguments, action: Callable[[Machine], None]) -> None:
        words = given.words
        errors: list[str] = []
        machines = []
        if not words:
            machines = [self._target(words)]
        for name in words:
            try:
                machines.append(self.store.load(name))
            except MachineError as error:
                errors.append(str(error))
        if not errors:
            with ThreadPoolExecutor(max_workers=max(1, len(machines))) as pool:
                for done in [pool.submit(action, machine) for machine in machines]:
                    try:
                        done.result()
                    except MachineError as error:
                        errors.append(str(error))
        if errors:
            raise MachineError("\n".join(errors).strip())
        for machine in machines:
            self.store.save(machine)

    # create

    def create(self, arguments: list[str]) -> None:
        driver = _driver_name(arguments)
        if driver not in DRIVERS:
            raise MachineError(
                f'Driver "{driver}" not found. Do you have the plugin binary "docker-machine-driver-{driver}" '
                "accessible in your PATH?"
            )
        flags = sorted([*SHARED_FLAGS, *DRIVER_FLAGS[driver]], key=lambda flag: flag.name)
        about = Command(COMMANDS["create"].usage, COMMANDS["create"].description, tuple(flags))
        try:
            given = parse(arguments, flags)
        except UsageError as error:
            print("Incorrect Usage.\n")
            print(about.help("create"), end="")
            raise MachineError(str(error)) from error
        if given.wants_help:
            print(about.help("create"), end="")
            return
        if len(given.words) > 1:
            extra = " ".join(given.words[1:])
            raise MachineError(f"Invalid command line. Found extra arguments [{extra}]")
        if not given.words:
            print(about.help("create"), end="")
            raise MachineError("Error: No machine name specified")
        (name,) = given.words
        if not _NAME.fullmatch(name):
            raise MachineError(
                "Error creating machine: Invalid hostname specified. Allowed hostname chars are: 0-9a-zA-Z . -"
            )
        config = _new_config(self.store, name, driver, given)
        machine = Machine(config, DRIVERS[driver](config["Driver"]))
        if self.store.exists(name):
            raise MachineError(f'Docker machine "{name}" already exists')
        self._create(machine)
        self.store.save(machine)
        log.info(
            "To see how to connect your Docker Client to the Docker Engine running on this virtual machine, run: "
            f"docker-machine env {name}"
        )

    def _create(self, machine: Machine) -> None:
        try:
            provision.bootstrap_certificates(machine)
        except (MachineError, ValueError, OSError) as error:
            raise MachineError(f"Error generating certificates: {error}") from error
        log.info("Running pre-create checks...")
        try:
            machine.driver.pre_create_check()
        except MachineError as error:
            raise PreCreateError(f"Error with pre-create check: {_go_quoted(str(error))}") from error
        self.store.save(machine)
        log.info("Creating machine...")
        try:
            try:
                machine.driver.create()
            except MachineError as error:
                raise MachineError(f"Error in driver during machine creation: {error}") from error
            self.store.save(machine)
            if machine.driver.name != "none":
                provision.provision_created(machine)
        except MachineError as error:
            raise MachineError(f"Error creating machine: {error}") from error

    # What there is

    def ls(self, given: Arguments) -> None:
        filters = _filters(given["filter"])
        machines, failed = self.store.load_all()
        machines = [machine for machine in machines if _matches(machine, filters)]
        if given["quiet"]:
            for machine in machines:
                print(machine.name)
            return
        form = str(given["format"] or _LIST)
        with_headers = form.startswith("table ")
        form = form.removeprefix("table ").strip(" ").replace("\\t", "\t").replace("\\n", "\n")
        items = _items(machines, failed, given["timeout"])
        rows = [
            render(form, item, type_name="commands.HostListItem")
            for item in ([_HEADERS, *items] if with_headers else items)
        ]
        print(table(rows) if with_headers else "".join(f"{row}\n" for row in rows), end="")

    def active(self, given: Arguments) -> None:
        if given.words:
            raise MachineError("Error: Too many arguments given")
        items = _items(*self.store.load_all(), given["timeout"])
        for item in items:
            if item["ActiveHost"]:
                print(item["Name"])
                return
        if any(item["State"] == "Timeout" for item in items):
            raise MachineError("Error getting active host: timeout")
        raise MachineError("No active host found")

    def inspect(self, given: Arguments) -> None:
        if len(given.words) > 1:
            print(self.help, end="")
        machine = self._target(given.words, only_one=True)
        print(render(given["format"], machine.config) if given["format"] else to_json(machine.config))

    def status(self, given: Arguments) -> None:
        machine = self._target(given.words, only_one=True)
        try:
            log.info(machine.driver.state())
        except MachineError as error:
            raise MachineError(f"error getting state for host {machine.name}: {error}") from error

    def _print_ip(self, machine: Machine) -> None:
        try:
            print(machine.driver.address(), flush=True)
        except MachineError as error:
            raise MachineError(f"Error getting IP address: {error}") from error

    def url(self, given: Arguments) -> None:
        print(self._target(given.words, only_one=True).driver.url())

    def version(self, given: Arguments) -> None:
        words = given.words
        if not words:
            print(_VERSION)
            return
        machine = self._target(words, only_one=True)
        try:
            print(engine_version(machine.driver.url().removeprefix("tcp://"), *machine.client_files))
        except HandshakeError as error:
            raise MachineError(str(error)) from error

    def config(self, given: Arguments) -> None:
        log.info_stream = sys.stderr
        machine = self._target(given.words)
        try:
            url = provision.check_connection(machine)
        except MachineError as error:
            raise MachineError(f"Error running connection boilerplate: {error}") from error
        directory = self.store.machines / machine.name
        print("--tlsverify")
        for option, name in (("tlscacert", "ca.pem"), ("tlscert", "cert.pem"), ("tlskey", "key.pem")):
            print(f'--{option}="{directory / name}"')
        print(f"-H={url}")

    def env(self, given: Arguments) -> None:
        log.info_stream = sys.stderr
        variables: dict[str, str | None] = dict.fromkeys(
            ["DOCKER_TLS_VERIFY", "DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_MACHINE_NAME"]
        )
        no_proxy = "no_proxy" if os.environ.get("no_proxy") else "NO_PROXY"
        if given["unset"]:
            if given.words:
                raise MachineError("Error: Expected no machine name when the -u flag is present")
            shell = _shell(given["shell"])
            if given["no-proxy"]:
                variables[no_proxy] = os.environ.get(no_proxy) or None
        else:
            machine = self._target(given.words, only_one=True)
            try:
                url = provision.check_connection(machine)
            except MachineError as error:
                raise MachineError(f"Error checking TLS connection: {error}") from error
            shell = _shell(given["shell"])
            values = ["1", url, str(self.store.machines / machine.name), machine.name]
            variables = dict(zip(variables, values, strict=True))
            if given["no-proxy"]:
                address, known = machine.driver.address(), os.environ.get(no_proxy, "")
                variables[no_proxy] = known if address in known else f"{known},{address}".strip(",")
        print(_exports(shell, variables, unset=given["unset"]), end="")
        print(_hint(shell, " ".join(self.command_line)), end="")

    # What is done to machines

    def start(self, given: Arguments) -> None:
        self.for_each(given, _start)
        log.info("Started machines may have new IP addresses. You may need to re-run the `docker-machine env` command.")

    def restart(self, given: Arguments) -> None:
        self.for_each(given, _restart)
        log.info(
            "Restarted machines may have new IP addresses. You may need to re-run the `docker-machine env` command."
        )

    def regenerate_certs(self, given: Arguments) -> None:
        if not given["force"]:
            answer = _ask("Regenerate TLS machine certs?  Warning: this is irreversible.")
            if answer is None:
                raise MachineError("EOF")
            if not answer:
                return
        log.info("Regenerating TLS certificates")

        def regenerate(machine: Machine) -> None:
            if given["client-certs"]:
                log.info("Regenerating local certificates")
                provision.bootstrap_certificates(machine)
            provision.provision(machine)

        self.for_each(given, regenerate)

    def rm(self, given: Arguments) -> None:
        if not given.words:
            print(self.help, end="")
            raise MachineError("Error: Expected to get one or more machine names as arguments")
        log.info(f"About to remove {', '.join(given.words)}")
        log.info("WARNING: This action will delete both local reference and remote instance.")
        force = given["force"]
        if not (force or given["y"]) and not _ask("Are you sure?"):
            return
        errors: list[str] = []

        def note(message: str) -> None:
            if force:
                log.error(message)
            errors.append(message)

        for name in given.words:
            failed = False
            try:
                self.store.load(name).driver.remove()
            except MachineError as error:
                failed = True
                note(f'Error removing host "{name}": {error}')
            if failed and not force:
                continue
            if self.store.exists(name):
                self.store.remove(name)
                log.info(f"Successfully removed {name}")
            else:
                note(f'Can\'t remove "{name}"')
        if errors and not force:
            raise MachineError("\n".join(errors))

    def ssh(self, arguments: list[str]) -> None:
        machine = self._target(arguments)
        if machine.driver.state() != "Running":
            raise MachineError(f'Error: Cannot run SSH command: Host "{machine.name}" is not running')
        sys.stdout.flush()
        done = subprocess.run([*machine.driver.ssh_arguments(), *arguments[1:]], check=False)
        if done.returncode:
            raise MachineError(f"exit status {done.returncode}")

    def scp(self, given: Arguments) -> None:
        if len(given.words) != 2:
            print(self.help, end="")
            raise MachineError("Improper number of arguments")
        if given["delta"]:
            raise MachineError("the stand-in does not copy by rsync (--delta)")
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=quiet", "-3"]
        options += ["-r"] * given["recursive"] + ["-q"] * given["quiet"] + ["-o", "IdentitiesOnly=yes"]
        places = []
        for word in given.words:
            name, colon, path = word.partition(":")
            user, _, name = name.rpartition("@")
            if not colon or name == "localhost":
                places.append(path if colon else word)
                continue
            try:
                config = self.store.load(name).driver.config
            except MachineError as error:
                raise MachineError(f"Error loading host: Error loading host: {error}") from error
            options += ["-o", f"Port={config['SSHPort']}", "-o", f'IdentityFile="{config["SSHKeyPath"]}"']
            places.append(f"{user or config['SSHUser']}@127.0.0.1:{path}")
        done = subprocess.run(["scp", *options, *places], check=False)
        if done.returncode:
            raise MachineError(f"exit status {done.returncode}")


def _go_quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _ask(question: str) -> bool | None:
    """Ask on standard output; None when nobody is there to answer."""
    print(f"{question} (y/n): ", end="", flush=True)
    answer = sys.stdin.readline().strip()
    return answer.lower().startswith("y") if answer else None


def _driver_name(arguments: Sequence[str]) -> str:
    for number, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name in ("-d", "--driver", "-driver"):
            return value if equals else next(iter(arguments[number + 1 :]), "")
    return os.environ.get("MACHINE_DRIVER") or "virtualbox"


def _new_config(store: Store, name: str, driver: str, given: Arguments) -> dict[str, Any]:
    directory = store.machines / name
    base = {
        "IPAddress": "",
        "MachineName": name,
        "SSHUser": "",
        "SSHPort": 0,
        "SSHKeyPath": "",
        "StorePath": str(store.path),
        "SwarmMaster": False,
        "SwarmHost": "",
        "SwarmDiscovery": "",
    }
    if driver == "none":
        url = str(given["url"])
        if not url:
            raise MachineError(
                "Error setting machine configuration from flags provided: --url option is required when no driver is "
                "selected"
            )
        details = base | {"IPAddress": url.partition("://")[2], "URL": url}
    else:
        details = base | {
            "SSHUser": "docker",
            "SSHKeyPath": str(directory / "id_rsa"),
            "SwarmMaster": given["swarm-master"],
            "SwarmHost": given["swarm-host"],
            "SwarmDiscovery": given["swarm-discovery"],
            "VBoxManager": {},
            "HostInterfaces": {},
            "CPU": given["virtualbox-cpu-count"],
            "Memory": given["virtualbox-memory"],
            "DiskSize": given["virtualbox-disk-size"],
            "NatNicType": given["virtualbox-nat-nictype"],
            "Boot2DockerURL": given["virtualbox-boot2docker-url"],
            "Boot2DockerImportVM": given["virtualbox-import-boot2docker-vm"],
            "HostDNSResolver": given["virtualbox-host-dns-resolver"],
            "HostOnlyCIDR": given["virtualbox-hostonly-cidr"],
            "HostOnlyNicType": given["virtualbox-hostonly-nictype"],
            "HostOnlyPromiscMode": given["virtualbox-hostonly-nicpromisc"],
            "UIType": given["virtualbox-ui-type"],
            "HostOnlyNoDHCP": given["virtualbox-hostonly-no-dhcp"],
            "NoShare": given["virtualbox-no-share"],
            "DNSProxy": not given["virtualbox-no-dns-proxy"],
            "NoVTXCheck": given["virtualbox-no-vtx-check"],
            "ShareFolder": given["virtualbox-share-folder"],
        }
    certificates = store.certificates
    return {
        "ConfigVersion": 3,
        "Driver": details,
        "DriverName": driver,
        "HostOptions": {
            "Driver": "",
            "Memory": 0,
            "Disk": 0,
            "EngineOptions": {
                "ArbitraryFlags": list(given["engine-opt"]),
                "Dns": None,
                "GraphDir": "",
                "Env": list(given["engine-env"]),
                "Ipv6": False,
                "InsecureRegistry": list(given["engine-insecure-registry"]),
                "Labels": list(given["engine-label"]),
                "LogLevel": "",
                "StorageDriver": given["engine-storage-driver"],
                "SelinuxEnabled": False,
                "TlsVerify": True,
                "RegistryMirror": list(given["engine-registry-mirror"]),
                "InstallURL": given["engine-install-url"],
            },
            "SwarmOptions": {
                "IsSwarm": given["swarm"] or given["swarm-master"],
                "Address": given["swarm-addr"],
                "Discovery": given["swarm-discovery"],
                "Agent": given["swarm"],
                "Master": given["swarm-master"],
                "Host": given["swarm-host"],
                "Image": given["swarm-image"],
                "Strategy": given["swarm-strategy"],
                "Heartbeat": 0,
                "Overcommit": 0,
                "ArbitraryFlags": list(given["swarm-opt"]),
                "ArbitraryJoinFlags": list(given["swarm-join-opt"]),
                "Env": None,
                "IsExperimental": given["swarm-experimental"],
            },
            "AuthOptions": {
                "CertDir": str(certificates),
                "CaCertPath": os.environ.get("MACHINE_TLS_CA_CERT") or str(certificates / "ca.pem"),
                "CaPrivateKeyPath": os.environ.get("MACHINE_TLS_CA_KEY") or str(certificates / "ca-key.pem"),
                "CaCertRemotePath": "",
                "ServerCertPath": str(directory / "server.pem"),
                "ServerKeyPath": str(directory / "server-key.pem"),
                "ClientKeyPath": os.environ.get("MACHINE_TLS_CLIENT_KEY") or str(certificates / "key.pem"),
                "ServerCertRemotePath": "",
                "ServerKeyRemotePath": "",
                "ClientCertPath": os.environ.get("MACHINE_TLS_CLIENT_CERT") or str(certificates / "cert.pem"),
                "ServerCertSANs": list(given["tls-san"]),
                "StorePath": str(directory),
            },
        },
        "Name": name,
    }


def _filters(given: Sequence[str]) -> dict[str, list[str]]:
    filters: dict[str, list[str]] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise MachineError("Unsupported filter syntax")
        if key.lower() not in ("swarm", "driver", "state", "name", "label"):
            raise MachineError(f"Unsupported filter key '{key.lower()}'")
        filters.setdefault(key.lower(), []).append(value)
    return filters


def _matches(machine: Machine, filters: dict[str, list[str]]) -> bool:
    labels = dict(label.partition("=")[::2] for label in machine.engine["Labels"])

    def state(value: str) -> bool:
        try:
            return machine.driver.state().lower() == value.lower()
        except MachineError as error:
            log.info(error)
            return value.lower() == "error"

    def label(value: str) -> bool:
        key, _, wanted = value.partition("=")
        return key in labels and labels[key].lower() == wanted.lower()

    tests: dict[str, Callable[[str], bool]] = {
        "driver": lambda value: machine.driver.name.lower() == value.lower(),
        "name": lambda value: bool(re.search(value, machine.name)),
        "state": state,
        "label": label,
        "swarm": lambda _value: False,  # the classic one, which nobody has any more
    }
    return all(any(tests[key](value) for value in values) for key, values in filters.items())


def _items(machines: Sequence[Machine], failed: dict[str, MachineError], timeout: int) -> list[dict[str, Any]]:
    """Ask all machines at once; whoever takes longer than *timeout* is listed as such, and left behind."""
    items: dict[str, dict[str, Any]] = {}
    began = time.monotonic()

    def ask(machine: Machine) -> None:
        items[machine.name] = _item(machine)

    threads = [threading.Thread(target=ask, args=(machine,), daemon=True) for machine in machines]
    for thread in threads:
        thread.start()
    for thread, machine in zip(threads, machines, strict=True):
        thread.join(max(0.0, began + timeout - time.monotonic()))
        late = {"Name": machine.name, "DriverName": machine.driver.name, "State": "Timeout"}
        items.setdefault(machine.name, _blank() | late | {"ResponseTime": f"{timeout}s"})
    for name, error in failed.items():
        message = str(error).replace("\n", "")
        items[name] = _blank() | {"Name": name, "DriverName": "not found", "State": "Error", "Error": message}
    return [items[name] for name in sorted(items, key=natural)]


def _blank() -> dict[str, Any]:
    nothing = dict.fromkeys(_HEADERS, "")
    return nothing | {"ActiveHost": False, "ActiveSwarm": False, "ResponseTime": "0s"}


def _item(machine: Machine) -> dict[str, Any]:
    began = time.monotonic()
    url, state, version, problem = "", "", "Unknown", ""
    try:
        url = machine.driver.url()
        state = "Running"
        version = f"v{engine_version(url.removeprefix('tcp://'), *machine.client_files)}"
    except HandshakeError as error:
        problem = str(error)
    except MachineError as error:
        problem = "" if str(error) == NOT_RUNNING else str(error)
        try:
            state = machine.driver.state()
        except MachineError:
            state = "Error"
    active = state == "Running" and url == os.environ.get("DOCKER_HOST")
    return _blank() | {
        "Name": machine.name,
        "Active": "*" if active else "-",
        "ActiveHost": active,
        "DriverName": machine.driver.name,
        "State": state,
        "URL": url,
        "SwarmOptions": machine.config["HostOptions"]["SwarmOptions"],
        "EngineOptions": machine.engine,
        "DockerVersion": version,
        "Error": problem,
        "ResponseTime": f"{round((time.monotonic() - began) * 1000)}ms",
    }


def _shell(given: str) -> str:
    if given:
        return given
    if not os.environ.get("SHELL"):
        print(
            "The default lines below are for a sh/bash shell, you can specify the shell you're using, with the --shell "
            "flag.\n"
        )
        raise MachineError("Error: Unknown shell")
    return Path(os.environ["SHELL"]).name


#: shell → how a line begins, what stands between name and value, how it ends; the same for unsetting
_SET = {
    "fish": ("set -gx ", ' "', '";'),
    "powershell": ("$Env:", ' = "', '"'),
    "cmd": ("SET ", "=", ""),
    "tcsh": ("setenv ", ' "', '";'),
    "emacs": ('(setenv "', '" "', '")'),
}
_UNSET = {
    "fish": ("set -e ", "", ";"),
    "powershell": ("Remove-Item Env:\\\\", "", ""),
    "cmd": ("SET ", "=", ""),
    "tcsh": ("unsetenv ", "", ";"),
    "emacs": ('(setenv "', '" nil', ")"),
}


def _exports(shell: str, variables: dict[str, str | None], unset: bool) -> str:
    forms, default = (_UNSET, ("unset ", "", "")) if unset else (_SET, ("export ", '="', '"'))
    begin, between, end = forms.get(shell, default)
    return "".join(f"{begin}{name}{between}{value or ''}{end}\n" for name, value in variables.items())


def _hint(shell: str, command: str) -> str:
    mark, call = {
        "fish": ("#", f"eval ({command})"),
        "powershell": ("#", f"& {command} | Invoke-Expression"),
        "cmd": ("REM", f"\t@FOR /f \"tokens=*\" %i IN ('{command}') DO @%i"),
        "emacs": (";;", f'(with-temp-buffer (shell-command "{command}" (current-buffer)) (eval-buffer))'),
        "tcsh": (":", f"eval `{command}`"),
    }.get(shell, ("#", f"eval $({command})"))
    return f"{mark} Run this command to configure your shell: \n{mark} {call}\n"


# What is done to one of several machines


def _in_state(machine: Machine, wanted: str) -> bool:
    try:
        return machine.driver.state() == wanted
    except MachineError:
        return False


def _change(machine: Machine, action: Callable[[], None], wanted: str) -> None:
    if _in_state(machine, wanted):
        raise MachineError(f'Machine "{machine.name}" is already {wanted.lower()}.')
    action()
    wait(lambda: _in_state(machine, wanted))


def _start(machine: Machine) -> None:
    log.info(f'Starting "{machine.name}"...')
    _change(machine, machine.driver.start, "Running")
    log.info(f'Machine "{machine.name}" was started.')
    provision.wait_for_engine(provision.detect(machine))


def _stop(machine: Machine) -> None:
    log.info(f'Stopping "{machine.name}"...')
    _change(machine, machine.driver.stop, "Stopped")
    log.info(f'Machine "{machine.name}" was stopped.')


def _kill(machine: Machine) -> None:
    log.info(f'Killing "{machine.name}"...')
    _change(machine, machine.driver.kill, "Stopped")
    log.info(f'Machine "{machine.name}" was killed.')


def _restart(machine: Machine) -> None:
    log.info(f'Restarting "{machine.name}"...')
    if _in_state(machine, "Stopped"):
        _start(machine)
    elif _in_state(machine, "Running"):
        machine.driver.restart()
        wait(lambda: _in_state(machine, "Running"))
    provision.wait_for_engine(provision.detect(machine))


def _upgrade(machine: Machine) -> None:
    raise MachineError(f'the stand-in cannot upgrade machines: "{machine.name}" is left as it is')


def main() -> int:
    # The name as typed would be the path of this file, however it was found.
    command_line = ["docker-machine", *sys.argv[1:]]
    default = os.environ.get("MACHINE_STORAGE_PATH") or str(Path.home() / ".docker" / "machine")
    words = sys.argv[1:]
    storage = default
    while words and words[0].startswith("-"):
        name, equals, value = words.pop(0).lstrip("-").partition("=")
        if name in ("v", "version"):
            print(_VERSION)
            return 0
        if name in ("debug", "D", "native-ssh"):
            continue
        value = value if equals or not words else words.pop(0)
        if name in ("storage-path", "s"):
            storage = value
        elif name in ("tls-ca-cert", "tls-ca-key", "tls-client-cert", "tls-client-key"):
            os.environ[f"MACHINE_{name.upper().replace('-', '_')}"] = value
        elif name not in ("github-api-token", "bugsnag-api-token"):
            log.error(f"flag provided but not defined: -{name}")
            return 0  # so it is: it prints its usage, and is content
    if not words:
        print("Usage: docker-machine [OPTIONS] COMMAND [arg...]")
        return 0
    calls = CommandLine(Store(Path(storage)), command_line)
    try:
        calls.run(words[0], words[1:])
    except PreCreateError as error:
        log.error(error)
        return 3
    except (MachineError, TemplateError) as error:
        log.error(error)
        return 1
    return 0
