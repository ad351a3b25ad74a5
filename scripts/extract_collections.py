# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take the collections that a requirements file names, and all they depend on, out of a wheel of the ansible package.

usage: extract_collections.py WHEEL REQUIREMENTS.YML DIRECTORY
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import yaml


def with_dependencies(wheel: zipfile.ZipFile, wanted: list[str]) -> list[str]:
    """Return the collections *wanted* and all they depend on; SystemExit names one that the wheel lacks."""
    found: list[str] = []
    while wanted:
        name, *wanted = wanted
        if name in found:
            continue
        try:
            manifest = json.loads(wheel.read(f"ansible_collections/{name.replace('.', '/')}/MANIFEST.json"))
        except KeyError:
            raise SystemExit(f"{Path(str(wheel.filename)).name} does not contain the collection {name}") from None
        found.append(name)
        wanted += manifest["collection_info"]["dependencies"]
    return found


def main() -> None:
    wheel_path, requirements, directory = map(Path, sys.argv[1:])
    names = [collection["name"] for collection in yaml.safe_load(requirements.read_text())["collections"]]
    with zipfile.ZipFile(wheel_path) as wheel:
        folders = tuple(f"ansible_collections/{name.replace('.', '/')}/" for name in with_dependencies(wheel, names))
        wheel.extractall(directory, [member for member in wheel.namelist() if member.startswith(folders)])


if __name__ == "__main__":
    main()
