#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_wait
short_description: Wait until a stack runs as it was deployed
description:
  - Succeeds when every service has as many running tasks of its present version as it wants, and they stay up for a
    while. A task with a health check counts when it is healthy. A job counts when it is completed, a service of zero
    replicas at once.
  - A service that publishes no port and is not restarted after exit code 0 counts as a job too, once its tasks ended
    so.
  - Fails, with the tasks' own errors and their last log lines, when an update is paused or rolled back, when a slot
    failed three times or a node has no image for it, or at the time limit. Failures from before O(since) are history
    and never count.
  - Tasks that have been up for longer than O(settle_seconds) need no waiting, so nothing is waited for when nothing
    changed.
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Waits for nothing.
  diff_mode:
    support: N/A
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
extends_documentation_fragment:
  - apiary.swarm.endpoint
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  timeout_seconds:
    description:
      How long to wait without progress, that is, without more tasks in place than at any time before. So a rolling
      update of many tasks may take its time, and one that is stuck may not.
    type: int
    default: 300
  settle_seconds:
    description:
      How long tasks must stay up. A task whose slot has failed since the deploy must stay up for three times as long,
      or five.
    type: float
    default: 3.0
  since:
    description:
      - Time on the manager's clock; failures of tasks that were made earlier do not count. Take it from
        RV(apiary.swarm.stack_deploy#module:deployed_at). Empty means the beginning of the wait.
    type: str
    default: ""
  missing_ok:
    description: Whether a swarm without this stack is fine. Then nothing is waited for.
    type: bool
    default: false
  log_lines:
    description: How many of a failing task's last log lines are shown.
    type: int
    default: 10
"""

EXAMPLES = r"""
- name: Wait until the stack runs
  apiary.swarm.stack_wait:
    docker: "{{ stack_docker }}"
    name: getstartedlab
    since: "{{ __stack_deployed.deployed_at | default('') }}"
"""

RETURN = r"""
services:
  description: For each service how many tasks are wanted, running and completed, and whether it converged.
  returned: except in check mode
  type: dict
  sample: {web: {state: converged, wanted: 5, running: 5, completed: 0}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import ENDPOINT_SPEC

ARGUMENT_SPEC = {
    "docker": {"type": "dict", "required": True, "options": ENDPOINT_SPEC},
    "name": {"type": "str", "required": True},
    "timeout_seconds": {"type": "int", "default": 300},
    "settle_seconds": {"type": "float", "default": 3.0},
    "since": {"type": "str", "default": ""},
    "missing_ok": {"type": "bool", "default": False},
    "log_lines": {"type": "int", "default": 10},
}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(msg="stack_wait runs as an action plugin on the controller: call it as apiary.swarm.stack_wait")


if __name__ == "__main__":
    main()
