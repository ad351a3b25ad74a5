# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have a machine of docker-machine; see the module of the same name for its documentation."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import boot2docker, docker_machine
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.boot2docker import Guest, Sight
from ansible_collections.apiary.swarm.plugins.module_utils.docker_machine import Store, TimedOutError, Tool
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.names import check_machine
from ansible_collections.apiary.swarm.plugins.modules.docker_machine import ARGUMENT_SPEC

_GONE = "machine does not exist"
_NO_SUCH = "does not exist. Use"
_NOT_LISTENING = "Unable to verify the Docker daemon is listening"


class ActionModule(ApiaryAction):
    """Bring one machine to its state, and its address and certificate to what they should be."""

    argument_spec = ARGUMENT_SPEC
    #: replaced in tests
    make_tool: Callable[[str, Path], Tool] = Tool
    make_guest: Callable[[str, str, Path, str], Guest] = Guest

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        check_machine(params["name"])
        storage = Path(params["storage_path"]).expanduser().absolute()
        machine = _Machine(
            params, type(self).make_tool(params["executable"], storage), Store(storage, params["name"]),
            type(self).make_guest, check_mode=self._task.check_mode,
        )  # fmt: skip
        if params["state"] == "observed":
            machine.observe()
        else:
            machine.bring_about(params["state"])
        result = machine.result()
        if self._task.diff and result["actions"]:
            result["diff"] = {
                "before": "",
                "after": "".join(f"{params['name']}: {action}\n" for action in result["actions"]),
            }
        return result


class _Machine:
    """One machine: what there is of it, what is to be done, and what was."""

    def __init__(self, params: dict[str, Any], tool: Tool, store: Store, make_guest: Any, *, check_mode: bool) -> None:
        self.name = params["name"]
        self.params = params
        self.tool = tool
        self.store = store
        self.make_guest = make_guest
        self.check_mode = check_mode
        self.actions: list[str] = []
        self.config: dict[str, Any] = {}
        #: absent, or what docker-machine calls it, in small letters
        self.state = "absent"
        self.address = ""
        self.sight = Sight()
        self.pending: dict[str, list[Any]] = {}
        self.tool_version = ""

    # Looking

    def look(self) -> None:
        """Ask what there is: two calls where it runs."""
        self.config, self.state, self.address = self.inspected(), "absent", ""
        if self.config or self.store.exists:
            answer = self.query("ip")
            self.address = answer.out.strip() if answer.status == 0 else ""
            self.state = "running" if self.address else self.asked_state(answer)

    def inspected(self) -> dict[str, Any]:
        answer = self.query("inspect")
        if answer.status == 0:
            found = json.loads(answer.out)
            return dict(found)
        if _NO_SUCH in answer.err or not self.store.was_provisioned:
            return {}  # not there, or what a create that was killed has left
        raise ApiaryError(
            f"docker-machine cannot read what it has on {self.name} in {self.store.directory}: {answer.text}. Put "
            "config.json back, or remove the machine with all its data: 'docker-machine rm -f " + self.name + "'"
        )

    def asked_state(self, ip_answer: Any) -> str:
        if _GONE in ip_answer.err:
            return "gone"
        answer = self.query("status")
        if _GONE in answer.err:
            return "gone"
        word = answer.out.strip().lower()
        if word == "running" and self.store.was_provisioned and self.params["state"] != "absent":
            return "unreachable: " + ip_answer.text
        return word or "unknown"

    def query(self, command: str) -> Any:
        try:
            return self.tool.ask(command, self.name, seconds=self.params["query_timeout_seconds"])
        except TimedOutError as error:
            raise TimedOutError(
                f"{error} (docker_machine_query_timeout_seconds): VirtualBox does not answer, or the machine hangs. "
                f"See whether 'VBoxManage showvminfo {self.name}' answers; its processes VBoxSVC and VBoxHeadless may "
                "have to be ended"
            ) from error

    def observe(self) -> None:
        """Look, and warn of what a run that makes machines would see to."""
        try:
            self.look()
        except ApiaryError as error:  # what needs the machine fails; the others go on
            self.state = "unknown"
            Display().warning(str(error))
            return
        fixed, problem = self.params["fixed_address"], ""
        if self.state != "running":
            problem = f"is not running, but {self.state}"
        elif fixed and self.address != fixed:
            problem = f"has the address {self.address}, not {fixed}"
        else:
            problem = self.store.certificate_problem(self.address)
        if problem:
            Display().warning(f"{self.name}: {problem}. playbooks/machines.yml sees to it")

    # Bringing about

    def bring_about(self, state: str) -> None:
        self.look()
        if state == "absent":
            if self.state != "absent":
                self.act("remove the machine", self.remove)
            return
        self.refuse_what_cannot_be()
        if not self.params["create"] and state == "stopped" and self.state in ("absent", "gone"):
            return
        if self.is_lacking():
            if self.state != "absent":
                self.act("remove what is left of the machine", self.remove)
            self.act("make and start the machine", self.create)
            if state == "stopped":
                self.act("stop the machine", self.stop)
                return
        elif state == "restarted" and self.state == "running":
            self.act("stop the machine", self.stop)
            self.act("start the machine", self.start)
        elif state in ("started", "restarted") and self.state != "running":
            self.act("start the machine", self.start)
        elif state == "stopped":
            if self.state not in ("stopped", "saved"):
                self.act("stop the machine", self.stop)
            return
        if self.check_mode and (self.actions or self.state != "running"):
            return  # what else there is to do cannot be seen from here
        if self.state == "running" and state != "present":
            self.set_right()

    def act(self, action: str, do: Callable[[], None]) -> None:
        self.actions.append(action)
        if not self.check_mode:
            do()

    def is_lacking(self) -> bool:
        """Say whether the machine is to be made; where nothing may be made, that there is none is an error."""
        if self.params["create"]:
            return self.to_be_made()
        if self.state == "absent" or (self.state == "gone" and self.to_be_made()):
            raise ApiaryError(f"docker-machine has no machine {self.name} to start: playbooks/site.yml makes it")
        return False

    def to_be_made(self) -> bool:
        """Say whether there is no machine to keep: none, half of one that never was whole, or one to be made anew."""
        if self.state == "absent":
            return True
        if not self.store.was_provisioned and not (self.config.get("Driver") or {}).get("IPAddress"):
            # docker-machine cannot go on with a create that has failed; nothing can have been kept on it
            return True
        recreate = self.params["recreate"]
        if self.state == "gone":
            if recreate:
                return True
            disks = " and ".join(map(str, self.store.disks))
            kept = f" Its disk is still there ({disks}): 'VBoxManage registervm' brings the VM back." if disks else ""
            raise ApiaryError(
                f"the VM of {self.name} was deleted in VirtualBox, behind docker-machine's back.{kept} To make the "
                "machine anew, and empty: run playbooks/machines.yml with -e docker_machine_recreate=true"
            )
        self.pending = docker_machine.differences(self.config, self.virtualbox, self.params)
        if self.pending and recreate:
            return True
        for option, (has, wanted) in self.pending.items():
            Display().warning(
                f"{self.name} was made with {option} {has!r}, and {wanted!r} is asked for: docker-machine cannot "
                "change that. docker_machine_recreate=true makes it anew, and empty"
            )
        return False

    @property
    def virtualbox(self) -> dict[str, Any]:
        return self.params["virtualbox"] or {} if self.params["driver"] == "virtualbox" else {}

    def refuse_what_cannot_be(self) -> None:
        if self.state.startswith("unreachable"):
            raise ApiaryError(
                f"{self.name} runs, but docker-machine cannot tell its address ({self.state.partition(': ')[2]}). "
                "Look at its console, and at the host-only network ('VBoxManage list hostonlyifs'); then "
                f"'docker-machine restart {self.name}'"
            )
        for directory in self.params["data_directories"]:
            if not boot2docker.KEPT.fullmatch(directory):
                raise ApiaryError(
                    f"docker_machine_data_dirs has {directory!r}: all but /var/lib/boot2docker and /mnt/sda1 is RAM "
                    "on a boot2docker machine, and lost when it stops. Choose a directory in /var/lib/boot2docker"
                )
        fixed, config = self.params["fixed_address"], self.config.get("Driver") or {}
        cidr = config.get("HostOnlyCIDR")
        if not fixed or not cidr or self.params["recreate"]:
            return
        network = ipaddress.ip_interface(cidr).network
        if ipaddress.ip_address(fixed) not in network:
            raise ApiaryError(
                f"{self.name} was made with the host-only network {network}, and its address is to be {fixed}: set "
                f"virtualbox_hostonly_cidr back to {cidr}, or make the machine anew, and empty, with "
                "-e docker_machine_recreate=true"
            )

    def create(self) -> None:
        arguments = docker_machine.create_arguments(
            self.params["driver"], self.virtualbox, self.params["driver_options"], self.params
        )
        seconds = self.params["create_timeout_seconds"]
        with self.tool.locked(alone=True):
            self.tool_version = self.tool.version(self.params["query_timeout_seconds"])
            try:
                self.tool.do(f"make {self.name}", *arguments, self.name, seconds=seconds)
            except TimedOutError as error:
                raise TimedOutError(
                    f"{error} (docker_machine_create_timeout_seconds). The next run removes what there is of the "
                    "machine, and makes it anew"
                ) from error
        self.look()

    def start(self) -> None:
        seconds = self.params["start_timeout_seconds"]
        with self.tool.locked(alone=False):
            try:
                answer = self.tool.ask("start", self.name, seconds=seconds)
            except TimedOutError as error:
                raise TimedOutError(
                    f"{error} (docker_machine_start_timeout_seconds): look at the machine's console in VirtualBox"
                ) from error
        self.look()
        failed = answer.status != 0 and "already running" not in answer.err
        # An engine that is to listen on the fixed address cannot do so until that is set right, which comes next.
        moved = _NOT_LISTENING in answer.err and self.params["fixed_address"] not in ("", self.address) and self.address
        if failed and not moved:
            raise ApiaryError(docker_machine.explain(f"start {self.name}", ["start"], answer))
        self.refuse_what_cannot_be()

    def stop(self) -> None:
        seconds = self.params["stop_timeout_seconds"]
        with self.tool.locked(alone=False):
            try:
                answer = self.tool.ask("stop", self.name, seconds=seconds)
            except TimedOutError as error:
                if not self.params["force_stop"]:
                    raise TimedOutError(
                        f"{error} (docker_machine_stop_timeout_seconds): the machine does not heed its power button, "
                        "for which docker-machine would wait for ever. Look at its console, or run with -e "
                        "docker_machine_force_stop=true, which pulls its plug"
                    ) from error
                self.actions.append("pull the machine's plug")
                answer = self.tool.ask("kill", self.name, seconds=seconds)
        if answer.status != 0 and "already stopped" not in answer.err:
            raise ApiaryError(docker_machine.explain(f"stop {self.name}", ["stop"], answer))
        self.look()

    def remove(self) -> None:
        remove(self.tool, self.store, self.params["stop_timeout_seconds"])
        self.state, self.address, self.config = "absent", "", {}

    # What runs

    def set_right(self) -> None:
        """See to what a running machine's provisioning, address and certificate should be."""
        fixed = self.params["fixed_address"]
        if fixed:
            self.sight = self.guest.look(self.params["data_directories"])
        if not self.store.is_whole or (fixed and not self.sight.profile):
            self.act("provision the machine", lambda: self.certify("provision"))
            if self.check_mode:
                return
        if fixed:
            if missing := self.sight.missing:
                self.act(f"make {', '.join(missing)}", lambda: self.guest.make(missing))
            self.fix_address(fixed)
        if self.check_mode and self.actions:
            return
        if problem := self.store.certificate_problem(self.address):
            self.act(f"renew the certificate: {problem}", lambda: self.certify("regenerate-certs", "-f"))

    @property
    def guest(self) -> Guest:
        user = str((self.config.get("Driver") or {}).get("SSHUser") or "docker")
        return self.make_guest(self.name, self.address, self.store.directory, user)

    def fix_address(self, fixed: str) -> None:
        interface = self.sight.interfaces.get(self.address)
        if interface is None:
            raise ApiaryError(
                f"{self.name} has no interface with {self.address}, which docker-machine says is its address: "
                f"'docker-machine restart {self.name}'"
            )
        prefix = ipaddress.ip_interface(self.config["Driver"]["HostOnlyCIDR"]).network.prefixlen
        wanted = boot2docker.pinned_bootsync(self.sight.bootsync, interface, fixed, prefix)
        if wanted == self.sight.bootsync and self.address == fixed:
            return
        if self.address != fixed:
            self.refuse_to_break_swarm(fixed)
        if wanted != self.sight.bootsync:
            self.act(
                f"fix its address to {fixed}",
                lambda: self.guest.write("fix its address", boot2docker.BOOTSYNC, wanted, "0755"),
            )
        if self.address == fixed:
            return
        self.act(f"restart it, from {self.address} to {fixed}", self.move)
        if not self.check_mode and self.address != fixed:
            raise ApiaryError(
                f"{self.name} has the address {self.address} after its restart, not {fixed}, which "
                f"{boot2docker.BOOTSYNC} in it sets: 'docker-machine ssh {self.name} cat {boot2docker.BOOTSYNC}' "
                "shows whether something else there changes it"
            )

    def refuse_to_break_swarm(self, fixed: str) -> None:
        member = self.guest.swarm_address()
        if member and member != fixed:
            raise ApiaryError(
                f"{self.name} is in a swarm as {member}, and its address is to be {fixed}: a swarm's nodes cannot "
                "change theirs. Set docker_machine_number for it in the inventory so that the address stays, or take "
                f"it out of its swarm first: 'docker-machine ssh {self.name} docker swarm leave --force'"
            )

    def move(self) -> None:
        """Restart it, with an engine that also starts if its profile names the address that it had before."""
        wanted = self.params["fixed_address"]
        if self.sight.profile and wanted not in self.sight.profile:
            opened = boot2docker.open_profile(self.sight.profile)
            self.guest.write("have its engine listen everywhere", boot2docker.PROFILE, opened)
        self.stop()
        self.start()

    def certify(self, *command: str) -> None:
        """Have docker-machine provision it, which waits for the engine to listen on 2376 before it does anything."""
        if self.params["fixed_address"]:
            sight = self.guest.look()
            if 2376 not in sight.ports:
                if sight.profile:
                    self.guest.replace_profile(boot2docker.open_profile(sight.profile))
                else:
                    self.guest.restart_engine()
        with self.tool.locked(alone=False):
            self.tool.do(f"provision {self.name}", *command, self.name, seconds=self.params["start_timeout_seconds"])

    def result(self) -> dict[str, Any]:
        driver = self.config.get("Driver") or {}
        state = self.state.partition(":")[0]
        return {
            "changed": bool(self.actions),
            "actions": self.actions,
            "pending": self.pending,
            "state": state,
            "address": self.address,
            "directory": str(self.store.directory),
            "tls": self.store.tls(),
            "ssh": {
                "host": self.address,
                "port": 22,
                "user": str(driver.get("SSHUser") or "docker"),
                "key": str(self.store.key),
            },
            "versions": {"engine": self.sight.version, "docker_machine": self.tool_version},
        }


def remove(tool: Tool, store: Store, seconds: float) -> None:
    """Remove a machine, and see that it is gone; its directory too, where docker-machine leaves that."""
    forced = [] if store.config() else ["-f"]  # what has no readable configuration has no VM that could be found
    with tool.locked(alone=False):
        tool.do(f"remove {store.name}", "rm", "-y", *forced, store.name, seconds=seconds)
    deadline = time.monotonic() + 10
    while store.exists and time.monotonic() < deadline:
        time.sleep(0.2)
    if store.exists:
        raise ApiaryError(f"docker-machine has removed {store.name}, but {store.directory} is still there: remove it")
