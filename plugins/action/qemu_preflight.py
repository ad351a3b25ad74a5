# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find what would keep QEMU machines from running; see the module of the same name for its documentation."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any, ClassVar

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import preflight, qemu_snapshot, uml
from ansible_collections.apiary.swarm.plugins.module_utils.accelerator import foreseen_emulation
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.qemu import QEMU, find_tool
from ansible_collections.apiary.swarm.plugins.module_utils.qmp import Monitor
from ansible_collections.apiary.swarm.plugins.modules.qemu_preflight import ARGUMENT_SPEC

#: programs and the Debian packages that bring them
_PROGRAMS = {QEMU: "qemu-system-x86", "mke2fs": "e2fsprogs"}
_BUILD_PROGRAMS = {"mmdebstrap": "mmdebstrap", "genext2fs": "genext2fs", "flock": "util-linux"}
_LOOPBACK_VARIABLE = "qemu_machine_loopback_network"
#: what a machine writes before the first stack runs on it, and what the image and its building take
_MACHINE_BYTES = 1 << 30
_BUILD_BYTES = 2 << 30


class ActionModule(ApiaryAction):
    """Fail with all that is wrong, before anything is changed."""

    argument_spec = ARGUMENT_SPEC
    variable_prefixes: ClassVar = {"machines": "qemu_machine_"}

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        preflight.require_linux("qemu_machine")
        machines: list[dict[str, Any]] = params["machines"]
        directory, image = Path(params["cluster_directory"]), Path(params["image"])
        problems = [
            *preflight.address_problems(
                machines,
                {
                    "entrypoint": (_LOOPBACK_VARIABLE, params["loopback_network"]),
                    "lan_address": ("qemu_machine_lan_network", params["lan_network"]),
                },
                "qemu_machine_number",
            ),
            *preflight.size_problems(machines),
        ]
        if platform.machine() != "x86_64":
            problems.append(f"this host is {platform.machine()}: the machine image is for x86_64 only so far")
        programs = _PROGRAMS | ({} if image.exists() else _BUILD_PROGRAMS)
        problems += [
            f"{program} is missing on this host: 'make setup' installs it, or apt-get install {package}"
            for program, package in programs.items()
            if not find_tool(program)
        ]
        sockets = [
            ("qemu_machine_state_dir", directory, directory / "machines" / m["name"] / "monitor") for m in machines
        ]
        if cache := params["snapshot_cache"]:
            sockets.append(("qemu_machine_cache_dir", Path(cache), qemu_snapshot.longest_socket(Path(cache))))
        too_long = {
            f"{variable} leads to {leads_to}, which is {len(str(path)) - preflight.SOCKET_PATH_LIMIT} "
            "characters too long for a socket: choose a shorter path"
            for variable, leads_to, path in sockets
            if len(str(path)) > preflight.SOCKET_PATH_LIMIT
        }
        if too_long:
            raise ApiaryError(preflight.report([*problems, *sorted(too_long)]))

        stopped = []
        for machine in machines:
            wanted = preflight.host_ports(machine["forwarded_ports"])
            try:
                with Monitor(directory / "machines" / machine["name"] / "monitor") as monitor:
                    wanted -= {(forward.protocol, forward.host_port) for forward in monitor.forwards()}
            except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
                stopped.append(machine)
                wanted |= preflight.OWN_PORTS
            problems += preflight.port_problems(machine["name"], machine["entrypoint"], wanted, _LOOPBACK_VARIABLE)
        problems += preflight.memory_problems(stopped, Path("/proc/meminfo").read_text())
        if params["accelerator"] == "uml":
            problems += [missing] if (missing := uml.missing_programs()) else []
        new = [machine for machine in stopped if not any((directory / "machines" / machine["name"]).glob("disk.*"))]
        problems += preflight.space_problems("qemu_machine_state_dir", directory, len(new) * _MACHINE_BYTES)
        if not image.exists():
            problems += preflight.space_problems("qemu_machine_cache_dir", image, _BUILD_BYTES)
        if problems:
            raise ApiaryError(preflight.report(problems))
        if new and (reason := foreseen_emulation(params["accelerator"], max(machine["cpus"] for machine in new))):
            Display().display(
                f"  Machines are emulated here ({reason}): whatever they do takes minutes instead of seconds. "
                "Containers as machines are much faster: INVENTORY=containers, with a Docker Engine on this computer."
            )
        return {"changed": False, "problems": []}
