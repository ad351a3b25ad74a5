# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Open a host's firewall for nodes; see the module of the same name for its documentation."""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils import firewall
from ansible_collections.apiary.swarm.plugins.module_utils.ssh_action import SshAction
from ansible_collections.apiary.swarm.plugins.modules.existing_machine_firewall import ARGUMENT_SPEC


class ActionModule(SshAction):
    """Look at the firewall, and open it where it is closed."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        host, cluster = self.host(params), params["cluster"]
        host.is_root = params["is_root"]
        said = host.root("show its firewall", firewall.look_script(cluster, params["address"]))
        peers = {str(ipaddress.ip_network(peer, strict=False)).removesuffix("/32") for peer in params["peers"]}
        actions, script = firewall.plan(said, cluster, sorted(peers - {params["address"]}))
        if actions and not self._task.check_mode:
            host.root("open its firewall", script)
        result: dict[str, Any] = {"changed": bool(actions), "actions": actions}
        if self._task.diff and actions:
            result["diff"] = {"before": "", "after": "".join(f"{params['name']}: {action}\n" for action in actions)}
        return result
