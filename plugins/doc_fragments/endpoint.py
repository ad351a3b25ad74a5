# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the option ``docker``: an engine, described as by the endpoint contract."""

from __future__ import annotations


class ModuleDocFragment:
    """Used with C(extends_documentation_fragment: [apiary.swarm.endpoint])."""

    DOCUMENTATION = r"""
options:
  docker:
    description: The endpoint of the engine, as in C(machine_docker).
    type: dict
    required: true
    suboptions:
      docker_host:
        description: Address of the engine, C(tcp://…), C(ssh://…) or C(unix://…).
        type: str
        required: true
      tls:
        description: Whether to use TLS.
        type: bool
        default: false
      validate_certs:
        description: Whether to use TLS and to verify the engine's certificate.
        type: bool
        default: false
      ca_path:
        description: CA certificate of the engines.
        type: path
      client_cert:
        description: Certificate of the client.
        type: path
      client_key:
        description: Key of the client.
        type: path
"""

    #: used with C(extends_documentation_fragment: [apiary.swarm.endpoint.nodes])
    NODES = r"""
options:
  nodes:
    description: The nodes.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The node's name in messages and results.
        type: str
        required: true
      docker:
        description: The endpoint of the node's engine, as in C(machine_docker).
        type: dict
        required: true
        suboptions:
          docker_host:
            description: Address of the engine, C(tcp://…), C(ssh://…) or C(unix://…).
            type: str
            required: true
          tls:
            description: Whether to use TLS.
            type: bool
            default: false
          validate_certs:
            description: Whether to use TLS and to verify the engine's certificate.
            type: bool
            default: false
          ca_path:
            description: CA certificate of the engines.
            type: path
          client_cert:
            description: Certificate of the client.
            type: path
          client_key:
            description: Key of the client.
            type: path
"""
