#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_render
short_description: Render a stack's template and check what comes out
description:
  - Renders a compose template with the variables of the task and checks the result as C(docker stack deploy) would
    take it, and more strictly where Docker would silently do something else. Needs no engine, so bad input ends a run
    before a machine is made.
  - All problems of a file are reported at once, each with its place, what was found there and what to do.
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Changes nothing in either mode.
  diff_mode:
    support: N/A
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  template:
    description:
      - The template. A relative path is looked up from the playbook's directory, the directory above it (the
        project), the role and the working directory, in this order.
    type: str
    required: true
  name:
    description: Name of the stack.
    type: str
    required: true
  services:
    description:
      - What the variable C(stack_services) is, where the template goes by it as in C('web' in stack_services). A name
        that it does not know is refused.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Render the stack and check it
  apiary.swarm.stack_render:
    template: "{{ stack_template }}"
    name: "{{ stack_name }}"
    services: "{{ stack_services }}"
  register: __stack_rendered
"""

RETURN = r"""
compose:
  description: The compose file.
  returned: success
  type: str
  sample: "version: \"3.8\"\nservices:\n  web:\n    image: web\n"
services:
  description: Image, mode and replicas (null where the mode has none) of each service.
  returned: success
  type: dict
  sample: {web: {image: web, mode: replicated, replicas: 5}}
published_ports:
  description: The ports that the stack publishes under numbers of its own.
  returned: success
  type: list
  elements: dict
  sample: [{service: web, published: 4000, target: 80, protocol: tcp, mode: ingress}]
directory:
  description: The template's directory, to which files named in the compose file are relative.
  returned: success
  type: str
  sample: /home/me/apiary/templates
"""

from ansible.module_utils.basic import AnsibleModule

ARGUMENT_SPEC = {
    "template": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "services": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="stack_render runs as an action plugin on the controller: call it as apiary.swarm.stack_render"
    )


if __name__ == "__main__":
    main()
