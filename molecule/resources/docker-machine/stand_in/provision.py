# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What docker-machine does on its own computer, and over SSH on a boot2docker guest, for an engine with TLS."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
from pathlib import Path

from stand_in.certificates import HandshakeError, connect, is_current, make, make_authority
from stand_in.drivers import MachineError, VirtualBoxDriver, wait
from stand_in.log import log
from stand_in.store import Machine

_PORT = 2376
_DATA = "/var/lib/boot2docker"
_UNREACHABLE = """
This machine has been allocated an IP address, but Docker Machine could not
reach it successfully.

SSH for the machine should still work, but connecting to exposed ports, such as
the Docker daemon port (usually <ip>:2376), may not work properly.

You may need to add the route manually, or use another related workaround.

This could be due to a VPN, proxy, or host file configuration issue.

You also might want to clear any VirtualBox host only interfaces you are not using."""


def _user() -> str:
    return os.environ.get("USER") or getpass.getuser()


def bootstrap_certificates(machine: Machine) -> None:
    """Have an authority and a client's certificate: there is no lock, so two at once are in each other's way."""
    auth = machine.auth
    authority, certificate, key = machine.client_files
    authority_key = Path(auth["CaPrivateKeyPath"])
    Path(auth["CertDir"]).mkdir(mode=0o700, parents=True, exist_ok=True)
    if not authority.exists() or not is_current(authority):
        if authority.exists():
            log.info("CA certificate is outdated and needs to be regenerated")
            authority_key.unlink(missing_ok=True)
        log.info(f"Creating CA: {authority}")
        if authority_key.exists():
            raise MachineError("certificate authority key already exists")
        make_authority(authority, authority_key, _user())
    if not certificate.exists() or not is_current(certificate):
        if certificate.exists():
            log.info("Client certificate is outdated and needs to be regenerated")
            key.unlink(missing_ok=True)
        log.info(f"Creating client certificate: {certificate}")
        if key.exists():
            raise MachineError("client key already exists")
        make(certificate, key, f"{_user()}.<bootstrap>", (authority, authority_key), [])


def detect(machine: Machine) -> VirtualBoxDriver:
    """Wait for a guest to answer over SSH, and see that it is boot2docker."""
    driver = machine.driver
    if not isinstance(driver, VirtualBoxDriver):
        raise MachineError(f"the stand-in cannot provision a machine of the driver {driver.name}")
    log.info("Waiting for SSH to be available...")
    driver.wait_for_ssh()
    log.info("Detecting the provisioner...")
    try:
        release = driver.ssh("cat /etc/os-release")
    except MachineError as error:
        raise MachineError(f"Error getting SSH command: {error}") from error
    if not re.search(r'^ID="?boot2docker"?$', release, re.MULTILINE):
        raise MachineError("OS type not recognized")
    return driver


def wait_for_engine(driver: VirtualBoxDriver) -> None:
    def listens() -> bool:
        try:
            listed = driver.ssh("if ! type netstat 1>/dev/null; then ss -tln; else netstat -tln; fi")
        except MachineError as error:
            log.info(f"Error running SSH command: {error}")
            return False
        return bool(re.search(rf":{_PORT}\s+.*:.*", listed))

    try:
        wait(listens, 10, 3)
    except MachineError as error:
        raise MachineError(f"Unable to verify the Docker daemon is listening: {error}") from error


def provision(machine: Machine) -> None:
    """Name the guest, make its certificate for the address it has, write its profile, and start its engine again."""
    driver = detect(machine)
    _provision(machine, driver)


def _provision(machine: Machine, driver: VirtualBoxDriver) -> None:
    name = driver.machine
    driver.ssh(f'sudo /usr/bin/sethostname {name} && echo "{name}" | sudo tee {_DATA}/etc/hostname')
    wait_for_engine(driver)
    driver.ssh(f"sudo mkdir -p {_DATA}")
    _make_certificate(machine, driver.address())
    driver.ssh("sudo /etc/init.d/docker stop")
    driver.ssh('if [ ! -z "$(ip link show docker0)" ]; then sudo ip link delete docker0; fi')
    log.info("Copying certs to the remote machine...")
    for path, remote in (
        (machine.auth["CaCertPath"], "ca.pem"),
        (machine.auth["ServerCertPath"], "server.pem"),
        (machine.auth["ServerKeyPath"], "server-key.pem"),
    ):
        driver.ssh(f"printf '%s' '{Path(path).read_text()}' | sudo tee {_DATA}/{remote}")
    driver.url()
    log.info("Setting Docker configuration on the remote daemon...")
    driver.ssh(f'sudo mkdir -p {_DATA} && printf %s "{profile(machine)}" | sudo tee {_DATA}/profile')
    driver.ssh("sudo /etc/init.d/docker start")
    wait_for_engine(driver)
    address = driver.address()
    try:
        socket.create_connection((address, _PORT), timeout=5).close()
    except OSError:
        log.info(_UNREACHABLE)


def _make_certificate(machine: Machine, address: str) -> None:
    log.info("Copying certs to the local machine directory...")
    directory = Path(machine.auth["StorePath"])
    for source, name in zip(machine.client_files, ("ca.pem", "cert.pem", "key.pem"), strict=True):
        try:
            shutil.copyfile(source, directory / name)
            (directory / name).chmod(source.stat().st_mode & 0o777)
        except FileNotFoundError as error:
            raise MachineError(
                f"Copying {name} to machine dir failed: open {source}: no such file or directory"
            ) from error
    make(
        Path(machine.auth["ServerCertPath"]),
        Path(machine.auth["ServerKeyPath"]),
        f"{_user()}.{machine.name}",
        (machine.client_files[0], Path(machine.auth["CaPrivateKeyPath"])),
        [*machine.auth["ServerCertSANs"], address, "localhost"],
    )


def profile(machine: Machine) -> str:
    """Return the profile, as it stands between the double quotes of a remote command."""
    engine = machine.engine
    arguments = [
        *(f"--label {label}" for label in [*engine["Labels"], f"provider={machine.driver.name}"]),
        *(f"--insecure-registry {registry}" for registry in engine["InsecureRegistry"]),
        *(f"--registry-mirror {mirror}" for mirror in engine["RegistryMirror"]),
        *(f"--{flag}" for flag in engine["ArbitraryFlags"]),
    ]
    lines = "".join(f"{argument}\n" for argument in arguments)
    exports = "".join(f'export \\"{_quoted(value)}\\"\n' for value in engine["Env"])
    return (
        f"\nEXTRA_ARGS='\n{lines}\n'\nCACERT={_DATA}/ca.pem\nDOCKER_HOST='-H tcp://0.0.0.0:{_PORT}'\n"
        f"DOCKER_STORAGE={engine['StorageDriver'] or 'overlay2'}\nDOCKER_TLS=auto\nSERVERKEY={_DATA}/server-key.pem\n"
        f"SERVERCERT={_DATA}/server.pem\n\n{exports}\n"
    )


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def check_connection(machine: Machine) -> str:
    """Return the machine's URL once the handshake with its engine has succeeded."""
    url = machine.driver.url()
    host = url.removeprefix("tcp://")
    try:
        connect(host, *machine.client_files).close()
    except HandshakeError as error:
        raise MachineError(
            "Error checking and/or regenerating the certs: There was an error validating certificates for host "
            f'"{host}": {error}\n'
            "You can attempt to regenerate them using 'docker-machine regenerate-certs [name]'.\n"
            "Be advised that this will trigger a Docker daemon restart which might stop running containers.\n"
        ) from error
    return url


def provision_created(machine: Machine) -> None:
    """The part of create that follows on the driver's own."""
    log.info("Waiting for machine to be running, this may take a few minutes...")
    wait(lambda: machine.driver.state() == "Running")
    log.info("Detecting operating system of created instance...")
    try:
        driver = detect(machine)
    except MachineError as error:
        raise MachineError(f"Error detecting OS: {error}") from error
    log.info("Provisioning with boot2docker...")
    try:
        _provision(machine, driver)
    except MachineError as error:
        raise MachineError(f"Error running provisioning: {error}") from error
    log.info("Checking connection to Docker...")
    try:
        check_connection(machine)
    except MachineError as error:
        raise MachineError(f"Error checking the host: {error}") from error
    log.info("Docker is up and running!")
