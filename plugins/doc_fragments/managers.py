# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the option ``managers``: the managers of the inventory, any of which may answer for the swarm."""

from __future__ import annotations


class ModuleDocFragment:
    """Used with C(extends_documentation_fragment: [apiary.swarm.managers])."""

    DOCUMENTATION = r"""
options:
  managers:
    description: The managers of the inventory, in order. The first that answers for a swarm is asked.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Inventory name of the manager.
        type: str
        required: true
      docker:
        description: The endpoint of the manager's engine, as in C(machine_docker). Empty where it is not known.
        type: dict
        required: true
  timeout_seconds:
    description: How long nothing may move, wherever something is waited for.
    type: int
    default: 300
"""
