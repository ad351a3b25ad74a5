# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What action plugins share that ask hosts over SSH: the host as Ansible would reach it, and become root there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.ssh import Escalation, Host, Target


class SshAction(ApiaryAction):
    """An action on a host over a connection of our own, made by what the inventory says for Ansible's."""

    _requires_connection = True

    def host(self, params: dict[str, Any]) -> Host:
        """Return the host; *params* has its ``name``, ``socket_dir`` and ``idle_seconds``."""
        connection, name = self._connection, params["name"]
        if connection.transport != "ssh":
            raise ApiaryError(
                f"{name}: ansible_connection is {connection.transport!r}: existing_machine knows ssh, and local for "
                "this computer"
            )
        options = {option: connection.get_option(option) for option in ("host", "port", "remote_user", "password")}
        if options["password"]:
            raise ApiaryError(
                f"{name}: ansible_password is set, and existing_machine logs in with keys, as its connection is used "
                "by more than Ansible: give the host a key (ssh-copy-id), and take the password out"
            )
        # Not public, and the one place that knows all variables and settings by which a host is reached.
        argv = [os.fsdecode(word) for word in connection._build_command(connection.get_option("ssh_executable"), "ssh")]
        arguments = [connection.get_option(f"ssh_{kind}_args") or "" for kind in ("common", "extra")]
        target = Target(
            name,
            options["host"],
            int(options["port"]) if options["port"] else None,
            options["remote_user"],
            connection.get_option("private_key_file"),
            [word for text in arguments for word in connection._split_ssh_args(text)],
        )
        host = Host(target, argv, Path(params["socket_dir"]), self._escalated, params["idle_seconds"])
        if problem := host.problem():
            raise ApiaryError(problem)
        return host

    def _escalated(self, line: str) -> Escalation:
        become = self._connection.become
        if become is None:
            raise ApiaryError("becoming root is switched off (ansible_become: false): switch it on, or log in as root")
        if become.name != "sudo":
            raise ApiaryError(
                f"ansible_become_method is {become.name!r}, and existing_machine knows sudo alone: set that"
            )
        whole = become.build_become_command(line, self._connection._shell)
        return Escalation(whole, become.prompt or "", become.success, become.get_option("become_pass") or "")
