#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_deploy
short_description: Make the swarm run a compose file as a stack
description:
  - Deploys with C(docker stack deploy), and only when something differs. A swarm config named
    C(apiary-stack-NAME-HASH) records the compose file and the hash of every service's specification after the deploy.
    A rerun reads services and record, two requests, and leaves the stack alone if the compose file means the same and
    every live specification still has its hash. C(docker stack rm) removes the record with the stack.
  - Before anything is changed, every image must be on the manager or in a registry, and no published port may belong
    to another stack.
  - A service that somebody changed by hand, whose update is paused or that was rolled back is deployed again.
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description:
      Predicts what would be done without changing anything. An engine that cannot be reached yet, or is no manager
      yet, would be deployed to. Images are not looked for, since earlier tasks may have been going to bring them.
  diff_mode:
    support: full
    description: Shows the compose file before and after, and names the services that would be touched.
  idempotent:
    support: full
    description: A second run changes nothing.
extends_documentation_fragment:
  - apiary.swarm.endpoint
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  compose:
    description: The compose file, as a text.
    type: str
    required: true
  directory:
    description:
      Where files that the compose file names (configs, secrets, env_file) are looked up, on the controller.
    type: path
    default: .
  prune:
    description: Whether services that the compose file no longer has are removed.
    type: bool
    default: true
  resolve_image:
    description: Whether the client asks a registry for the digests of images. V(never) needs no registry.
    type: str
    choices: [always, changed, never]
    default: never
  registry_auth:
    description:
      Whether the controller's registry logins are used and handed to the nodes, for images that need a login to pull.
    type: bool
    default: false
  images:
    description:
      What to deploy instead of an image that the compose file names, such as the published one with its digest, as
      M(apiary.swarm.image_publish) returns it.
    type: dict
    default: {}
  login:
    description:
      A registry's login, which the swarm keeps, encrypted, with the services whose images are from there, so that nodes
      can pull them later on. It goes to the client in its environment, and into no file.
    type: dict
    suboptions:
      registry:
        description: The registry, as for M(apiary.swarm.image_publish).
        type: str
        default: ""
      username:
        description: Name of the account; empty for no login.
        type: str
        default: ""
      password:
        description: Its password, or a token.
        type: str
        default: ""
  client:
    description:
      - Whose Docker client deploys. V(auto) takes the controller's, and the manager's where the controller has none
        or one that the engine refuses. The manager's runs in a container that is removed afterwards.
    type: str
    choices: [auto, controller, manager]
    default: auto
"""

EXAMPLES = r"""
- name: Deploy the stack
  apiary.swarm.stack_deploy:
    docker: "{{ stack_docker }}"
    name: getstartedlab
    compose: "{{ stack_definition.compose }}"
  register: __stack_deployed
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be.
  returned: success
  type: list
  elements: str
  sample: [create service web]
services:
  description:
    What became of each service (created, updated, unchanged or removed), its ID and the index of its version.
  returned: success, except in check mode
  type: dict
  sample: {web: {id: dh2inyigvvtnpbafzbpssjw2s, version_index: 19, state: created}}
client:
  description: Whose client deployed, controller or manager.
  returned: when something was deployed
  type: str
  sample: controller
deployed_at:
  description: The manager's time just before the deploy, for the option O(apiary.swarm.stack_wait#module:since).
  returned: when something was deployed
  type: str
  sample: "2026-11-23T03:36:58.161895516Z"
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import ENDPOINT_SPEC
from ansible_collections.apiary.swarm.plugins.module_utils.image_registry import REGISTRY_SPEC

ARGUMENT_SPEC = {
    "docker": {"type": "dict", "required": True, "options": ENDPOINT_SPEC},
    "name": {"type": "str", "required": True},
    "compose": {"type": "str", "required": True},
    "directory": {"type": "path", "default": "."},
    "prune": {"type": "bool", "default": True},
    "resolve_image": {"type": "str", "choices": ["always", "changed", "never"], "default": "never"},
    "registry_auth": {"type": "bool", "default": False},
    "images": {"type": "dict", "default": {}},
    "login": {"type": "dict", "options": {**REGISTRY_SPEC, "registry": {"type": "str", "default": ""}}},
    "client": {"type": "str", "choices": ["auto", "controller", "manager"], "default": "auto"},
}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="stack_deploy runs as an action plugin on the controller: call it as apiary.swarm.stack_deploy"
    )


if __name__ == "__main__":
    main()
