# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files that variables of a project name, wherever a run was started."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError


def find(name: str, task_vars: Mapping[str, Any], what: str, remedy: str) -> Path:
    """Return the file *name*, looked up from the playbook's directory, the project, the role and the working directory.

    Where there is none, ApiaryError calls it *what* and says where it was looked for, and the *remedy*.
    """
    # A play's directory is that of its own file, such as playbooks/steps; the role lies in roles/.
    playbook = Path(task_vars.get("playbook_dir", "."))
    places = [playbook, *list(playbook.parents)[:2]]
    if role := task_vars.get("role_path"):
        places += [Path(role), Path(role).parent.parent]
    places.append(Path())
    paths = [(place / Path(name).expanduser()).resolve() for place in places]
    for path in paths:
        if path.is_file():
            return path
    looked = ", ".join(dict.fromkeys(str(path) for path in paths))
    raise ApiaryError(f"there is no {what} {name!r}; looked for {looked}. {remedy}")
