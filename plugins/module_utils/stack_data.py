# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Data that services keep in a directory of a node: which directories, on which node, whose. Decisions only.

A directory is on one machine, and a service that is started elsewhere finds an empty one. "On a manager" is not enough
where there are several. So the node that has the data carries a label, which services ask for, and no run moves it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.swarm_hosts import hostname

#: on the one node that has the data of stacks, with the value "true"
LABEL = "apiary.data"
#: beside a directory: what it held before a restore (and when that was), and what it is to hold after one
BEFORE, RESTORED = ".before-restore", ".restored"

_TIED = re.compile(rf"^\s*node\.(labels\.{re.escape(LABEL)}\s*==\s*true|hostname\s*==|id\s*==)")
_LABELLED = re.compile(rf"^\s*node\.labels\.{re.escape(LABEL)}\s*==\s*true\s*$")
_NUMERIC_USER = re.compile(r"(\d+)(?::(\d+))?")

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Directory:
    """A directory below the machine's data directory that a service binds; *owner* is what the service's user is."""

    service: str
    path: str
    image: str = ""
    user: str = ""


def directories(document: Object, data_dir: str) -> list[Directory]:
    """Return what services that ask for the label bind from *data_dir*.

    ApiaryError names those that could find another directory of that name at each start.
    """
    found, problems = [], []
    for name, service in document["services"].items():
        deploy = service.get("deploy") or {}
        constraints = [str(text) for text in (deploy.get("placement") or {}).get("constraints") or []]
        for source in _binds(service):
            if not _is_below(source, data_dir):
                continue
            if any(map(_LABELLED.match, constraints)):
                found.append(Directory(name, source, str(service["image"]), str(service.get("user") or "")))
            elif deploy.get("mode") != "global" and not any(map(_TIED.match, constraints)):
                problems.append(
                    f"services.{name}: {source} is another directory on each node, and the service may start on any "
                    f"of them: add the constraint node.labels.{LABEL} == true, which one node has"
                )
    if problems:
        raise ApiaryError("nothing was deployed: " + "\n".join(problems))
    return found


def _binds(service: Object) -> list[str]:
    sources = []
    for entry in service.get("volumes") or []:
        if isinstance(entry, Mapping):
            if entry.get("type") == "bind":
                sources.append(str(entry.get("source", "")))
        elif str(entry).startswith("/") and ":" in str(entry):
            sources.append(str(entry).partition(":")[0])
    return sources


def _is_below(path: str, directory: str) -> bool:
    return PurePosixPath(directory) in PurePosixPath(path).parents


def unbound(wanted: Iterable[Directory], services: Mapping[str, Object]) -> list[Directory]:
    """Return the directories that the swarm's *services* do not bind yet; what a service runs on is there."""
    bound = {
        (name, mount.get("Source"))
        for name, service in services.items()
        for mount in service["Spec"]["TaskTemplate"]["ContainerSpec"].get("Mounts") or []
    }
    return [directory for directory in wanted if (directory.service, directory.path) not in bound]


def holders(nodes: Iterable[Object]) -> list[Object]:
    """Return the nodes with the label."""
    return [node for node in nodes if (node["Spec"].get("Labels") or {}).get(LABEL) == "true"]


def keeper(nodes: Sequence[Object], asked: Object | None, running: Sequence[str]) -> Object | None:
    """Return the node that has the data, None where it is yet to be chosen; *asked* is the one that a user named.

    ApiaryError where the data would be left behind: *running* are services of the stack that have data already.
    """
    labelled = holders(nodes)
    names = ", ".join(map(hostname, labelled))
    if len(labelled) > 1:
        raise ApiaryError(
            f"the label {LABEL} says where the data of stacks is, and {len(labelled)} nodes have it: {names}. Take it "
            f"from all but one: docker node update --label-rm {LABEL} NODE"
        )
    if labelled and asked and asked["ID"] != labelled[0]["ID"]:
        raise ApiaryError(
            f"stack_data_node is {hostname(asked)}, and the data is on {names}, where it would stay: leave that "
            "variable empty; or, to move the data, run playbooks/backup.yml, then docker node update --label-rm "
            f"{LABEL} {names}, then this again, then playbooks/restore.yml"
        )
    if labelled:
        return labelled[0]
    if running and not asked:
        raise ApiaryError(
            f"no node has the label {LABEL} any more, and {', '.join(running)} has data on the node that had it. If "
            f"that is still there: docker node update --label-add {LABEL}=true NODE. If it is gone, and its data with "
            "it, name the node that is to have it from now on (-e stack_data_node=NODE), and run playbooks/restore.yml "
            "if there is a backup"
        )
    return None


def owner(user: str) -> str:
    """Return what chown is told for the *user* of a service or an image; root for one that has only a name."""
    match = _NUMERIC_USER.fullmatch(user)
    return f"{match[1]}:{match[2] or match[1]}" if match else "0:0"


# The directory appears with its owner, or not at all. One that is there is left as it is.
MAKE = f"""\
set -e
while [ $# != 0 ]; do
  if [ ! -d "/data/$1" ]; then
    for old in "/data/$1{BEFORE}"-*; do
      if [ -e "$old" ]; then echo "$1{BEFORE} is there, and $1 is not"; exit 3; fi
    done
    mkdir -p "/data/$1.making"
    chown "$2" "/data/$1.making"
    chmod 0700 "/data/$1.making"
    mv "/data/$1.making" "/data/$1"
    echo "made $1"
  fi
  shift 2
done
"""
#: exit status of MAKE where a restore was interrupted
HALF_RESTORED = 3
