#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_prune
short_description: Remove from the registry service what nobody needs
description:
  - Removes the tags whose images are neither in O(keep) nor used by a service of the swarm, also by one that would be
    rolled back; then what no tag leads to any more, and what is left of uploads that were cut short. A tag stays with
    its image, so C(latest) of a kept one does.
  - What is in the registry is read from its data. To remove something it is stopped, as what is pushed during a garbage
    collection may be half gone after it. Tasks that start meanwhile on a node that has their image do not notice.
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Removes nothing; says which tags would go.
  diff_mode:
    support: full
    description: Lists the tags that go.
  idempotent:
    support: full
    description: A registry with nothing to remove goes on running.
extends_documentation_fragment:
  - apiary.swarm.endpoint
  - apiary.swarm.endpoint.nodes
options:
  name:
    description: Name of the registry's stack.
    type: str
    required: true
  registry:
    description: What images in it are called by, such as C(127.0.0.1:5000).
    type: str
    required: true
  keep:
    description: Names of images, with tags or digests, that stay.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Remove from the registry what nobody needs
  apiary.swarm.registry_prune:
    docker: "{{ registry_docker }}"
    nodes: "{{ registry_nodes }}"
    name: registry
    registry: 127.0.0.1:5000
    keep: ["127.0.0.1:5000/apiary/web:4f9d0c1b2a3e"]
"""

RETURN = r"""
removed:
  description: The tags, and uploads, that were removed, or would be.
  returned: success
  type: list
  elements: str
  sample: ["apiary/web:0b7c1e5d9f22"]
bytes_before:
  description: The size of the registry's data before.
  returned: when something was removed
  type: int
  sample: 62914560
bytes_after:
  description: Its size after that.
  returned: when something was removed
  type: int
  sample: 31457280
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import ENDPOINT_SPEC, NODES_SPEC

ARGUMENT_SPEC = {
    "docker": {"type": "dict", "required": True, "options": ENDPOINT_SPEC},
    "nodes": NODES_SPEC,
    "name": {"type": "str", "required": True},
    "registry": {"type": "str", "required": True},
    "keep": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="registry_prune runs as an action plugin on the controller: call it as apiary.swarm.registry_prune"
    )


if __name__ == "__main__":
    main()
