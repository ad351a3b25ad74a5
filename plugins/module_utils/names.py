# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names that become part of a path, a label, or the name of a container: one rule for each kind, none leads elsewhere.

The preflight of the playbooks has the same rules, in roles/cluster/vars/main.yml, and asks before anything is changed.
"""

from __future__ import annotations

import re

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

CLUSTER = r"[a-z0-9][a-z0-9-]*\Z"
#: hosts of an inventory may be named by their addresses
MACHINE = r"[A-Za-z0-9][A-Za-z0-9_.:-]*\Z"


def check_cluster(name: str) -> None:
    """ApiaryError unless a cluster may be called so."""
    if not re.match(CLUSTER, name):
        raise ApiaryError(
            f"the cluster's name is {name!r}: it names a directory and containers, so use small letters, digits and "
            "hyphens"
        )


def check_machine(name: str) -> None:
    """ApiaryError unless a machine may be called so."""
    if not re.match(MACHINE, name):
        raise ApiaryError(
            f"the machine's name is {name!r}: it names a directory, so it may have letters, digits and _.:- and begins "
            "with a letter or a digit"
        )
