# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find what would keep VirtualBox machines from running; see the module of the same name for its documentation."""

from __future__ import annotations

import ipaddress
import os
import platform
import re
import shutil
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import preflight, virtualbox
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_machine import Store, Tool, run_bounded
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.modules.docker_machine_preflight import ARGUMENT_SPEC

_SECONDS = 60
#: what a machine writes before the first stack runs on it: its ISO, a growing disk, logs
_MACHINE_BYTES = 1 << 30


class ActionModule(ApiaryAction):
    """Fail with all that is wrong, before anything is changed."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        machines: list[dict[str, Any]] = params["machines"]
        storage = Path(params["storage_path"]).expanduser().absolute()
        stores = [Store(storage, machine["name"]) for machine in machines]
        new = [machine for machine, store in zip(machines, stores, strict=True) if not store.was_provisioned]
        problems = _address_problems(machines, params["hostonly_cidr"])
        problems += virtualbox.size_problems(machines)
        tool_version, found = _tool_problems(params["executable"], storage)
        problems += found
        problems += _virtualbox_problems(params, stores, new)
        problems += virtualbox.store_problems(stores, params["cluster"], adopt=params["adopt"])
        problems += virtualbox.authority_problems(storage, [store.name for store in stores if store.exists])
        if new:
            problems += virtualbox.iso_problems(params["iso_url"], storage)
            problems += virtualbox.memory_problems(new, _read("/proc/meminfo") or "")
            problems += preflight.space_problems("docker_machine_storage_path", storage, len(new) * _MACHINE_BYTES)
        if problems:
            raise ApiaryError(preflight.report(problems))
        for warning in virtualbox.client_warnings(_client_version()):
            Display().warning(warning)
        return {
            "changed": False,
            "problems": [],
            "missing": [machine["name"] for machine in new],
            "version": tool_version,
        }


def _address_problems(machines: list[dict[str, Any]], cidr: str) -> list[str]:
    try:
        network = str(ipaddress.ip_interface(cidr).network)
    except ValueError:
        return []  # the range itself is told
    problems = preflight.address_problems(
        machines, {"address": (virtualbox.CIDR_VARIABLE, network)}, "docker_machine_number"
    )
    return problems or virtualbox.address_problems(machines)


def _tool_problems(executable: str, storage: Path) -> tuple[str, list[str]]:
    try:
        version = Tool(executable, storage).version(_SECONDS)
    except ApiaryError as error:
        return "", [str(error)]
    # rancher-machine counts from 0.15 on, and has 0.16's commands
    if not re.match(r"0\.1[5-9]\.|0\.[2-9]\d\.|[1-9]|dev\b", version):
        return version, [
            f"docker_machine_executable is {executable!r}, which is version {version or 'unknown'}: 0.16 or a fork of "
            "it is needed, see https://github.com/docker/machine/releases"
        ]
    return version, []


def _virtualbox_problems(params: dict[str, Any], stores: list[Store], new: list[dict[str, Any]]) -> list[str]:
    program = shutil.which("VBoxManage")
    if not program:
        return [
            "VBoxManage is not in PATH: install VirtualBox (https://www.virtualbox.org/wiki/Downloads; on Debian see "
            "docs/virtualbox.md), or add its directory to PATH"
        ]
    try:
        version_text = run_bounded([program, "--version"], os.environ, _SECONDS).out
        listed = run_bounded([program, "list", "hostonlyifs"], os.environ, _SECONDS)
    except (TimeoutError, OSError) as error:
        return [
            f"{program} cannot be used ({error or f'it has not ended after {_SECONDS} s'}): see whether 'VBoxManage "
            "--version' answers; a hanging VBoxSVC may have to be ended"
        ]
    # On a kernel for which VirtualBox has no module, the version comes after a warning.
    version = virtualbox.version_of(version_text.strip().splitlines()[-1] if version_text.strip() else "")
    if not version or version < (5,):
        return [
            f"{program} says that VirtualBox is version {version_text.strip() or 'unknown'}: docker-machine needs 5 "
            "or newer, and the kernel module that goes with it (on Linux 'sudo /sbin/vboxconfig')"
        ]
    problems = []
    if new:
        vtx_check = not params["no_vtx_check"]
        problems += virtualbox.host_problems(
            platform.system(), platform.machine(), version, _read("/proc/cpuinfo"), vtx_check=vtx_check
        )
    cidr = params["hostonly_cidr"]
    used = any((store.config().get("Driver") or {}).get("HostOnlyCIDR") == cidr for store in stores)
    return problems + virtualbox.range_problems(
        cidr,
        version=version,
        system=platform.system(),
        networks_conf=_read(str(virtualbox.NETWORKS_CONF)),
        hostonlyifs=virtualbox.adapters(listed.out),
        routes=_read("/proc/net/route") or "",
        used=used,
    )


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except OSError:
        return None


def _client_version() -> str:
    """Return the version of this computer's Docker client, if it has one."""
    program = shutil.which("docker")
    if not program:
        return ""
    try:
        found = re.search(r"version ([0-9.]+)", run_bounded([program, "--version"], os.environ, _SECONDS).out)
    except (TimeoutError, OSError):
        return ""
    return found[1] if found else ""
