# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have a host that exists as a machine; see the module of the same name for its documentation."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import engine_setup, existing
from ansible_collections.apiary.swarm.plugins.module_utils.containers import consequences, is_elsewhere, no_engine
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.ssh import Host, socket_of, wait_until
from ansible_collections.apiary.swarm.plugins.module_utils.ssh_action import SshAction
from ansible_collections.apiary.swarm.plugins.module_utils.swarm import CLUSTER_LABEL
from ansible_collections.apiary.swarm.plugins.modules.existing_machine import ARGUMENT_SPEC

_INSTALL_SECONDS = 1800
_SERVICE_SECONDS = 180
_API_SECONDS = 20


class ActionModule(SshAction):
    """Look at one host, and do there what is missing."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        machine: _Machine
        if self._connection.transport == "local":
            machine = _Local(params, check_mode=self._task.check_mode)
        else:
            machine = _Remote(params, lambda: self.host(params), check_mode=self._task.check_mode)
        result = machine.result(params["state"])
        if self._task.diff and result["actions"]:
            name = params["name"]
            result["diff"] = [{"before": "", "after": "".join(f"{name}: {action}\n" for action in result["actions"])}]
            result["diff"] += machine.diffs
        return result


class _Machine:
    """One machine: what it says of itself, what is to be done, and what was."""

    def __init__(self, params: dict[str, Any], *, check_mode: bool) -> None:
        self.params = params
        self.name = params["name"]
        self.check_mode = check_mode
        self.seen: dict[str, Any] = {}
        self.problem = ""
        self.actions: list[str] = []
        #: what there would be to do, once the preflight has found nothing against it
        self.plan: list[str] = []
        self.restarts = False
        self.diffs: list[dict[str, str]] = []

    @property
    def endpoint(self) -> dict[str, Any]:
        raise NotImplementedError

    def result(self, state: str) -> dict[str, Any]:
        if state in ("observed", "examined"):
            try:
                self.look(thoroughly=state == "examined")
            except ApiaryError as error:
                self.problem = str(error)
                if state == "observed":  # what needs the machine fails; the others go on
                    Display().warning(self.problem)
            if state == "examined":
                for consequence in consequences(self.seen.get("kernel_lacks", []), f"{self.name}: its kernel"):
                    Display().warning(consequence)
        else:
            getattr(self, state)()
        return {
            "changed": bool(self.actions),
            "actions": self.actions,
            "problem": self.problem,
            "seen": self.seen,
            "plan": self.plan,
            "restarts": self.restarts,
            "endpoint": self.endpoint,
        }

    def look(self, *, thoroughly: bool) -> None:
        raise NotImplementedError

    def ask_engine(self) -> None:
        """Put down what the engine says of itself and of its swarm; nothing of that where it does not answer."""
        with connect(self.endpoint, timeout_seconds=_API_SECONDS) as api:
            info = api.info()
            self.seen["engine"] = {
                "version": info["ServerVersion"],
                "api_version": api.version()["ApiVersion"],
                "live_restore": bool(info.get("LiveRestoreEnabled")),
                "rootless": "name=rootless" in (info.get("SecurityOptions") or []),
            }
            self.seen["node_name"] = info["Name"]
            swarm = info.get("Swarm") or {}
            control = bool(swarm.get("ControlAvailable"))
            self.seen["swarm"] = {
                "state": swarm.get("LocalNodeState") or "inactive",
                "node_id": swarm.get("NodeID") or "",
                "address": swarm.get("NodeAddr") or "",
                "control": control,
                "managers": [manager["Addr"] for manager in swarm.get("RemoteManagers") or [] if manager.get("Addr")],
                "cluster": "",
                "nodes": [],
                "leaderless": False,
            }
            if control:
                try:
                    labels = api.inspect_swarm()["Spec"].get("Labels") or {}
                    self.seen["swarm"]["cluster"] = labels.get(CLUSTER_LABEL, "")
                    self.seen["swarm"]["nodes"] = [node["ID"] for node in api.nodes()]
                except OSError:  # whose swarm it is cannot be told now; whoever needs the leader says so
                    self.seen["swarm"]["leaderless"] = True

    def present(self) -> None:
        raise NotImplementedError

    def configured(self) -> None:
        raise NotImplementedError

    def closed(self) -> None:
        """Let go of it."""

    def stopped(self) -> None:
        raise NotImplementedError

    def started(self) -> None:
        raise NotImplementedError


class _Local(_Machine):
    """This computer, whose engine is used as it is."""

    @property
    def endpoint(self) -> dict[str, Any]:
        return {"docker_host": self.params["docker_host"]}

    def look(self, *, thoroughly: bool) -> None:
        script = existing.look_script(self.params["docker_host"].removeprefix("unix://"), self.params["data_dir"])
        said = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, check=True, timeout=60)
        self.seen = existing.parse(said.stdout, time.time())
        self.seen["leave"] = "docker swarm leave --force"
        if is_elsewhere(self.params["docker_host"]):
            self.problem = (
                f"{self.name}: existing_machine_docker_host is {self.params['docker_host']}, an engine of another "
                "computer, and ansible_connection is local, this one: name that computer in an inventory of hosts "
                "(inventories/ssh), or unset DOCKER_HOST"
            )
            return
        try:
            self.ask_engine()
        except ApiaryError as error:
            reason = str(error.__cause__ or error)
            raise ApiaryError(
                no_engine(self.params["docker_host"], reason).replace(
                    "container_machine_engine", "existing_machine_docker_host"
                )
            ) from error

    def present(self) -> None:
        """Leave it: an engine of the user's own is installed, set up and started by them."""

    configured = present

    def stopped(self) -> None:
        Display().warning(f"{self.name}: its engine is the one of this computer, and stays up: it may be used for more")

    def started(self) -> None:
        self.look(thoroughly=False)


class _Remote(_Machine):
    """A host over SSH."""

    def __init__(self, params: dict[str, Any], find: Callable[[], Host], *, check_mode: bool) -> None:
        super().__init__(params, check_mode=check_mode)
        self._find = find
        self.daemon_json = ""

    @cached_property
    def host(self) -> Host:
        """The host; ApiaryError where the inventory does not say how it is reached."""
        return self._find()

    @property
    def endpoint(self) -> dict[str, Any]:
        return {"docker_host": f"unix://{socket_of(self.params['socket_dir'], self.name)}"}

    # Looking

    def look(self, *, thoroughly: bool) -> None:
        before = time.time()
        said = self.host.sh("say what it is", existing.look_script(self.params["socket"], self.params["data_dir"]))
        self.seen = existing.parse(said, (before + time.time()) / 2)
        self.host.is_root = self.seen["is_root"]
        sudo = "" if self.host.is_root else "sudo "
        self.seen["leave"] = f"{self.host.target.by_hand} {sudo}docker swarm leave --force"
        running = self.seen["socket"]
        if thoroughly:
            seen_by_root = existing.sections(self.host.root("say what only root sees", existing.ROOT_LOOK))
            if seen_by_root["root"].strip() != "0":
                raise ApiaryError(f"{self.name}: ansible_become_user is not root: take it out, as root is needed")
            running = running and seen_by_root["running"].strip() == "yes"
            self.daemon_json = seen_by_root["daemon"]
        if running:
            self._reach_engine()
        if thoroughly:
            self._make_plan()

    def _reach_engine(self) -> None:
        as_root = not self.seen["socket_usable"]
        if as_root and "docker" not in self.seen["tools"]:
            self.seen["engine_problem"] = (
                f"{self.name}: {self.seen['user']} may not use the engine's socket, and without the command docker on "
                "the host there is no way to it through sudo: install the client (docker-cli), or set "
                "existing_machine_docker_group: true"
            )
            return
        self.host.forward(self.params["socket"], as_root=as_root)
        try:
            self.ask_engine()
        except ApiaryError:
            # What was there may lead nowhere any more.
            self.host.close()
            self.host.forward(self.params["socket"], as_root=as_root)
            try:
                self.ask_engine()
            except ApiaryError as error:
                self.seen["engine_problem"] = (
                    f"{self.name}: its engine does not answer through SSH ({error}). Is AllowStreamLocalForwarding "
                    f"switched off in its sshd_config? '{self.host.target.by_hand} docker version' shows whether the "
                    "engine itself answers"
                )

    def _make_plan(self) -> None:
        seen = self.seen
        if not existing.has_engine(seen):
            if existing.family(seen):
                self.plan.append(self._installation()[0])
        elif "engine" not in seen and "engine_problem" not in seen:
            self.plan.append("start the engine")
        if self._joins_group():
            self.plan.append(f"add {seen['user']} to the group that may use the engine's socket")
        if not seen["data_dir"]:
            self.plan.append(f"make {self.params['data_dir']}")
        try:
            text, kept = self._wanted_daemon_json()
        except ApiaryError as error:
            seen["daemon_problem"] = str(error)
            return
        if kept:
            Display().warning(
                f"{self.name}: {engine_setup.DAEMON_JSON} has {', '.join(kept)} otherwise than "
                "existing_machine_daemon_json, and keeps it; existing_machine_daemon_json_overrides: true replaces it"
            )
        self.restarts = text != self.daemon_json
        seen["live_restore_goes"] = self.restarts and '"live-restore": true' not in text

    def _installation(self) -> tuple[str, str]:
        return engine_setup.installation(self.seen, self.params["engine_source"], self.params["repository_url"])

    def _joins_group(self) -> bool:
        return self.params["docker_group"] and not self.seen["is_root"] and not self.seen["socket_usable"]

    def _wanted_daemon_json(self) -> tuple[str, list[str]]:
        return engine_setup.merged_daemon_json(
            self.daemon_json, self.params["daemon_json"], overrides=self.params["daemon_json_overrides"]
        )

    # Doing

    def act(self, action: str, script: str, seconds: float = _SERVICE_SECONDS) -> None:
        self.actions.append(action)
        if not self.check_mode:
            self.host.root(action, script, seconds)

    def present(self) -> None:
        self.look(thoroughly=True)
        seen = self.seen
        is_new = not existing.has_engine(seen)
        if is_new:
            if self.restarts:  # it starts with that at once
                self._write_daemon_json()
            action, script = self._installation()
            Display().display(f"  {self.name}: {action}")
            self.act(action, script, _INSTALL_SECONDS)
        if is_new or "start the engine" in self.plan:
            self._bring("start")
        if self._joins_group():
            group = seen["socket_group"] if self.check_mode else self._glance()["socket_group"]
            if not self.seen["socket_usable"]:
                self.act(
                    f"add {seen['user']} to the group of the engine's socket",
                    engine_setup.membership(seen["user"], group),
                )
                self.host.close()  # a group counts from the next login on
        if not seen["data_dir"]:
            self.act(f"make {self.params['data_dir']}", f"mkdir -p '{self.params['data_dir']}'\n")
        if self.actions and not self.check_mode:
            self.look(thoroughly=True)
            self.plan = []

    def _glance(self) -> dict[str, Any]:
        said = self.host.sh("say what it is", existing.look_script(self.params["socket"], self.params["data_dir"]))
        self.seen.update(existing.parse(said, time.time()))
        return self.seen

    def _bring(self, verb: str) -> None:
        """Have the engine's service start or restart, and wait until the engine answers."""
        try:
            self.act(f"{verb} the engine", engine_setup.service(self.seen["init"], verb))
            if not self.check_mode:
                self._wait()
        except ApiaryError as error:
            log = self.host.root("show its engine's log", engine_setup.log_script(self.seen["init"]))
            raise ApiaryError(f"{str(error).rstrip('.')}. The end of its engine's log:\n{log}") from error

    def _wait(self) -> None:
        """Wait until the engine answers."""

        def answers() -> bool:
            self.seen.pop("engine", None)
            self.seen.pop("engine_problem", None)
            if self._glance()["socket"]:
                self._reach_engine()
            return "engine" in self.seen

        seconds = self.params["timeout_seconds"]
        if not wait_until(answers, seconds):
            said = f" ({self.seen['engine_problem']})" if "engine_problem" in self.seen else ""
            raise ApiaryError(
                f"{self.name}: its engine was started, and did not answer within {seconds} s "
                f"(existing_machine_timeout_seconds){said}"
            )

    def _write_daemon_json(self) -> None:
        text, _kept = self._wanted_daemon_json()
        self.diffs.append({
            "before": engine_setup.without_passwords(self.daemon_json),
            "after": engine_setup.without_passwords(text),
            "before_header": f"{self.name}:{engine_setup.DAEMON_JSON}",
            "after_header": f"{self.name}:{engine_setup.DAEMON_JSON}",
        })  # fmt: skip
        self.act(f"write {engine_setup.DAEMON_JSON}", engine_setup.writing_daemon_json(text))

    def configured(self) -> None:
        """Have the engine run with daemon.json as wanted; where it does not come up so, as before."""
        self.look(thoroughly=True)
        if not self.restarts or not existing.has_engine(self.seen):
            return
        before = self.daemon_json
        was = (self.seen.get("swarm") or {}).get("state", "")
        self._write_daemon_json()
        try:
            self._bring("restart")
        except ApiaryError as error:
            self.host.root("put daemon.json back", engine_setup.restoring_daemon_json(bool(before)))
            self._bring("restart")
            raise ApiaryError(
                f"{error}\nThe old {engine_setup.DAEMON_JSON} is in place again, and the engine runs with it"
            ) from error
        if was == "active" and not self.check_mode:
            self._wait_for_swarm()

    def _wait_for_swarm(self) -> None:
        """Wait until it is a node again: the next one is restarted only then."""

        def is_back() -> bool:
            self.ask_engine()
            return bool(self.seen["swarm"]["state"] == "active")

        if not wait_until(is_back, self.params["timeout_seconds"]):
            raise ApiaryError(
                f"{self.name}: its engine was restarted, and has not found its swarm again within "
                f"{self.params['timeout_seconds']} s (existing_machine_timeout_seconds): look at its log before any "
                "other node is restarted"
            )

    def stopped(self) -> None:
        self.look(thoroughly=True)
        if existing.has_engine(self.seen) and "start the engine" not in self.plan:
            self.act("stop the engine", engine_setup.service(self.seen["init"], "stop"))

    def started(self) -> None:
        self.look(thoroughly=True)
        if "start the engine" in self.plan:
            self._bring("start")

    def closed(self) -> None:
        self.host.close()
