# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a virtual machine under QEMU; see the module of the same name for its documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import qemu
from ansible_collections.apiary.swarm.plugins.module_utils.accelerator import choose_accelerator
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.files import lock, private_directory, write_private
from ansible_collections.apiary.swarm.plugins.module_utils.pki import (
    ensure_authority,
    ensure_certificate,
    ensure_ssh_key,
)
from ansible_collections.apiary.swarm.plugins.module_utils.qmp import Forward, is_running
from ansible_collections.apiary.swarm.plugins.modules.qemu_machine import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Bring one machine to run and to answer its Docker API."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        machine = _machine(params)
        check_mode = self._task.check_mode
        running = is_running(machine.monitor_path)
        if running:
            actions = qemu.set_forwards(machine, check_mode=check_mode)
        elif params["state"] == "forwarded":
            actions = []
        else:
            actions = _planned_start(machine)
        result: dict[str, Any] = {"actions": actions, "pending": {}}
        if self._task.diff and actions:
            result["diff"] = {"before": "", "after": "".join(f"{machine.name}: {action}\n" for action in actions)}

        if params["state"] == "started" and not check_mode:
            _prepare_cluster(machine, params["cluster"])
            if not running:
                result["accelerator"] = _start(machine, params)
            try:
                _wait(machine, params["boot_timeout_seconds"])
            except _ForeignCertificate:
                # The cluster's authority was lost and made anew while the machine ran on with the old one.
                actions.append("start the machine again, with a certificate of the cluster's authority")
                qemu.stop(machine.directory, graceful=True)
                result["accelerator"] = _start(machine, params)
                _wait(machine, params["boot_timeout_seconds"])
        if running:
            result["pending"] = qemu.pending_changes(machine)
            for key, (now, wanted) in result["pending"].items():
                Display().warning(
                    f"{machine.name} runs with {key}={now}; {wanted} holds from its next start"
                    + (", but the size of a disk stays as it was made" if key == "disk_gib" else "")
                )
        result["changed"] = bool(actions)
        return result


class _ForeignCertificate(ApiaryError):
    """The machine and this controller do not trust the same authority."""


def _machine(params: dict[str, Any]) -> qemu.Machine:
    return qemu.Machine(
        cluster_directory=Path(params["cluster_directory"]),
        image=Path(params["image"]),
        forwards=frozenset(
            Forward(port["protocol"], port["published"], port["published"]) for port in params["forwarded_ports"]
        ),
        **{
            key: params[key]
            for key in (
                *("name", "memory_mib", "cpus", "disk_gib", "disk_cache"),
                *("entrypoint", "lan_address", "lan_prefix", "multicast"),
            )
        },
    )


def _planned_start(machine: qemu.Machine) -> list[str]:
    return [*([] if machine.disk_path.exists() else ["make the machine"]), "start the machine"]


def _prepare_cluster(machine: qemu.Machine, cluster: str) -> None:
    """Make the authority and the client's key and certificate; the workers of all machines come here at once."""
    directory = private_directory(machine.cluster_directory)
    with lock(directory / "lock"):
        ensure_authority(directory / "pki", cluster)
        client = private_directory(directory / "client")  # laid out as DOCKER_CERT_PATH wants it
        if (
            not (client / "ca.pem").exists()
            or (client / "ca.pem").read_bytes() != (directory / "pki" / "ca.pem").read_bytes()
        ):
            write_private(client / "ca.pem", (directory / "pki" / "ca.pem").read_bytes())
        ensure_certificate(directory / "pki", client / "cert.pem", client / "key.pem", "apiary client", [])
        ensure_ssh_key(private_directory(directory / "ssh") / "id_ed25519", "apiary")


def _start(machine: qemu.Machine, params: dict[str, Any]) -> str:
    qemu.prepare(machine)
    accelerator = choose_accelerator(
        params["accelerator"], machine.image, params["cpu_model"], Path(params["cache_directory"])
    )
    qemu.start(machine, accelerator, params["cpu_model"])
    return accelerator


def _wait(machine: qemu.Machine, timeout_seconds: int) -> None:
    """Wait until the engine answers this controller."""
    client = machine.cluster_directory / "client"
    endpoint = {
        "docker_host": f"tcp://{machine.entrypoint}:{qemu.API_PORT}",
        "tls": True,
        "validate_certs": True,
        "ca_path": str(client / "ca.pem"),
        "client_cert": str(client / "cert.pem"),
        "client_key": str(client / "key.pem"),
    }
    last_error = "nothing"

    def answers() -> bool:
        nonlocal last_error
        if not is_running(machine.monitor_path):
            raise ApiaryError(
                f"{machine.name} stopped while it was starting. The end of {machine.console_path}:\n"
                f"{qemu.console_tail(machine)}\n"
                f"If its disk is damaged, remove {machine.directory}: "
                "the next run makes the machine anew, and it joins again."
            )
        try:
            with connect(endpoint, timeout_seconds=10):
                pass
        except ApiaryError as error:
            last_error = str(error)
            if "CERTIFICATE_VERIFY_FAILED" in last_error or "UNKNOWN_CA" in last_error.upper().replace(" ", "_"):
                raise _ForeignCertificate(last_error) from error
            return False
        return True

    if qemu.wait_until(answers, timeout_seconds, 0.3):
        return
    raise ApiaryError(
        f"{machine.name} runs, but its Docker API at {endpoint['docker_host']} did not answer within "
        f"{timeout_seconds} s (boot_timeout_seconds); last: {last_error}. The end of "
        f"{machine.console_path}:\n{qemu.console_tail(machine)}"
    )
