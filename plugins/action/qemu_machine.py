# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a virtual machine under QEMU; see the module of the same name for its documentation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import qemu, qemu_snapshot, uml
from ansible_collections.apiary.swarm.plugins.module_utils.accelerator import choose_accelerator
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.cluster_files import prepared, renew
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import CertificateRefused
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.files import lock, private_directory
from ansible_collections.apiary.swarm.plugins.module_utils.pki import ensure_ssh_key
from ansible_collections.apiary.swarm.plugins.module_utils.qmp import Forward, is_running
from ansible_collections.apiary.swarm.plugins.modules.qemu_machine import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Bring one machine to run and to answer its Docker API."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        machine = _machine(params)
        check_mode = self._task.check_mode
        running = is_running(machine.monitor_path) and not machine.newborn_path.exists()
        if params["state"] in ("stopped", "absent"):
            return self._ended(machine, params, running=running)
        if params["state"] == "revoked":
            return self._revoked(machine, params, running=running)
        if params["state"] == "started" and not params["create"] and not machine.exists():
            raise ApiaryError(
                f"there is no machine {machine.name} of the cluster {params['cluster']} to start: playbooks/site.yml "
                "makes it"
            )
        if params["state"] == "started" and not check_mode:
            with prepared(machine.cluster_directory, params["cluster"]) as actions:
                ensure_ssh_key(private_directory(machine.cluster_directory / "ssh") / "id_ed25519", "apiary")
        else:
            actions = renew(machine.cluster_directory, params["cluster"], check_mode=check_mode)
        if running:
            actions += qemu.set_forwards(machine, check_mode=check_mode)
        elif params["state"] == "started":
            actions += _planned_start(machine, params)
        result = self._result(machine, actions)
        if params["state"] == "started" and not check_mode:
            if not running:
                with lock(private_directory(machine.directory) / "lock"):
                    result["accelerator"] = _start(machine, params)
            try:
                qemu.wait_for_api(machine, params["boot_timeout_seconds"])
            except CertificateRefused:
                # The cluster's authority was lost and made anew while the machine ran on with the old one.
                actions.append("start the machine again, with a certificate of the cluster's authority")
                qemu.stop(machine.directory, graceful=True)
                result["accelerator"] = _start(machine, params)
                qemu.wait_for_api(machine, params["boot_timeout_seconds"])
        if running:
            result["pending"] = qemu.pending_changes(machine)
            for key, (now, wanted) in result["pending"].items():
                Display().warning(
                    f"{machine.name} runs with {key}={now}; {wanted} holds from its next start"
                    + (", but the size of a disk stays as it was made" if key == "disk_gib" else "")
                )
        result["changed"] = bool(actions)
        return result

    def _revoked(self, machine: qemu.Machine, params: dict[str, Any], *, running: bool) -> dict[str, Any]:
        # one that does not run gets the list when it boots
        if not running or qemu.knows_revocations(machine):
            return self._result(machine, [])
        if not self._task.check_mode:
            qemu.tell_revocations(machine)
            qemu.wait_for_api(machine, params["boot_timeout_seconds"])
        return self._result(machine, ["bring the list of revoked certificates up to date"])

    def _ended(self, machine: qemu.Machine, params: dict[str, Any], *, running: bool) -> dict[str, Any]:
        if params["state"] == "stopped":
            actions = ["stop the machine"] if running else []
            if actions and not self._task.check_mode:
                in_time = qemu.stop(machine.directory, graceful=True, timeout_seconds=params["stop_timeout_seconds"])
                if not in_time:
                    Display().warning(
                        f"{machine.name} did not shut down within {params['stop_timeout_seconds']} s "
                        "(qemu_machine_stop_timeout_seconds) and has lost its power"
                    )
        else:
            actions = [f"remove {machine.directory}"] if machine.directory.exists() else []
            if actions and not self._task.check_mode:
                qemu.stop(machine.directory, graceful=False)
                shutil.rmtree(machine.directory)
        return self._result(machine, actions)

    def _result(self, machine: qemu.Machine, actions: list[str]) -> dict[str, Any]:
        result: dict[str, Any] = {"changed": bool(actions), "actions": actions, "pending": {}}
        if self._task.diff and actions:
            result["diff"] = {"before": "", "after": "".join(f"{machine.name}: {action}\n" for action in actions)}
        return result


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


def _planned_start(machine: qemu.Machine, params: dict[str, Any]) -> list[str]:
    if machine.exists():
        return ["start the machine"]
    return [f"make the machine{' from the golden snapshot' if params['snapshot'] else ''}", "start the machine"]


def _start(machine: qemu.Machine, params: dict[str, Any]) -> str:
    if machine.newborn_path.exists():
        qemu_snapshot.forget(machine)  # the run that made it was interrupted before it had an identity
    elif is_running(machine.monitor_path):
        return "unchanged"  # another run has just started it
    cache = Path(params["cache_directory"])
    choice = choose_accelerator(
        params["accelerator"],
        machine.image,
        params["cpu_model"],
        cache,
        cpus=machine.cpus,
        unfit=_unfit(machine),
    )
    if refusal := _unfit(machine).get(choice.accelerator):
        raise ApiaryError(
            f"{machine.name} cannot run under {choice.reason}: {refusal}. Set qemu_machine_accelerator to auto, or "
            f"remove {machine.directory}: the next run makes the machine anew, and it joins again."
        )
    Display().display(f"  {machine.name} runs under {choice.reason}")
    if machine.exists() or not params["snapshot"] or not _clone(machine, params, choice.accelerator):
        qemu_snapshot.register(cache, machine)
        qemu.prepare(machine)
        if choice.accelerator == "uml":
            uml.start(machine)
        else:
            qemu.start(machine, choice.accelerator, params["cpu_model"])
    return choice.accelerator


def _unfit(machine: qemu.Machine) -> dict[str, str]:
    """Return the accelerators that cannot read the machine's disk, and why."""
    if machine.overlay_path.exists():
        return {"uml": "the machine was cloned from a snapshot of QEMU's"}
    if machine.cow_path.exists():
        return dict.fromkeys(("kvm", "tcg"), "the machine was cloned under User Mode Linux")
    return {}


def _clone(machine: qemu.Machine, params: dict[str, Any], accelerator: str) -> bool:
    """Make the machine from the golden snapshot; if that does not work, from one made anew; return whether one did."""
    recipe = qemu_snapshot.recipe(params, accelerator)
    warn = Display().warning
    for remedy in ("it is thrown away and built again", "it is thrown away, and the machine boots from cold"):
        golden, _built = qemu_snapshot.ensure(recipe, say=Display().display, warn=warn)
        try:
            qemu_snapshot.clone(machine, golden, recipe)
        except qemu_snapshot.SnapshotRefused as refusal:
            warn(f"the golden snapshot {golden} does not become {machine.name}: {remedy}. {refusal}")
            qemu_snapshot.discard(recipe, golden)
        else:
            return True
    return False
