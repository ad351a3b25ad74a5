#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_ingress
short_description: Publish a stack's ports through the routing mesh, or through a proxy where the kernel cannot do that
description:
  - Swarm's virtual IPs and its routing mesh need IPVS. On a kernel without it services run and nothing answers. Then
    this returns another compose file, in which services find each other by DNS round-robin and a global service
    C(ingress), HAProxy, publishes on every node what the stack publishes.
  - The proxy looks the tasks of a service up in the swarm's DNS twice a second, so it follows scaling and updates by
    itself, up to 200 tasks a service. It serves TCP. Ports published with C(mode=host) stay as they are.
  - Each service behind the proxy has the label C(apiary.ingress.ports), such as C(4000:80).
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
    description: Changes nothing; M(apiary.swarm.stack_deploy) shows what becomes of the result.
  idempotent:
    support: full
    description: Changes nothing.
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  compose:
    description: The compose file, as M(apiary.swarm.stack_render) returns it.
    type: str
    required: true
  mode:
    description: V(mesh), V(proxy), or V(auto) for the proxy where the kernels lack C(ip_vs). There V(mesh) is refused.
    type: str
    choices: [auto, mesh, proxy]
    default: auto
  kernel_lacks:
    description: What the kernel of any node lacks, as in C(machine_kernel_lacks).
    type: list
    elements: str
    default: []
  image:
    description: The proxy's image, any with C(haproxy) and C(sh). Needed only where a port is published by a proxy.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Choose how published ports are reached
  apiary.swarm.stack_ingress:
    name: getstartedlab
    compose: "{{ stack_definition.compose }}"
    kernel_lacks: "{{ stack_kernel_lacks }}"
    image: haproxy:2.8
  register: __stack_ingress
"""

RETURN = r"""
mode:
  description: V(mesh) or V(proxy).
  returned: success
  type: str
  sample: proxy
compose:
  description: The compose file to deploy; with V(mesh) the one that was given.
  returned: success
  type: str
  sample: "version: \"3.8\"\nservices:\n  web:\n    image: web\n"
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.ingress import MODES

ARGUMENT_SPEC = {
    "name": {"type": "str", "required": True},
    "compose": {"type": "str", "required": True},
    "mode": {"type": "str", "choices": list(MODES), "default": "auto"},
    "kernel_lacks": {"type": "list", "elements": "str", "default": []},
    "image": {"type": "str", "default": ""},
}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="stack_ingress runs as an action plugin on the controller: call it as apiary.swarm.stack_ingress"
    )


if __name__ == "__main__":
    main()
