# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The tests' own containers, and their images, which are made and cached as those of the role image are."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import docker.errors

from ansible_collections.apiary.swarm.plugins.module_utils import containers
from ansible_collections.apiary.swarm.plugins.module_utils.image_build import bootstrap, build, load, present
from ansible_collections.apiary.swarm.plugins.module_utils.image_cache import ImageCache
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import DEBIAN_SUITE, images_of


def image_in(api: Any, name: str, context: Path, shared: Mapping[str, Path], debian_suite: str = DEBIAN_SUITE) -> str:
    """Return the reference of the image *name*, which the engine then has.

    It is made of *context*, and of *shared*: files of other images, by their place in it.
    """
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = ImageCache(cache_home / "apiary" / "images")
    with tempfile.TemporaryDirectory() as directory:
        whole = Path(directory) / context.name
        shutil.copytree(context, whole)
        for place, file in shared.items():
            shutil.copy(file, whole / place)
        entry = {"name": name, "context": str(whole), "tag": "", "args": {}, "repository": "", "tags": []}
        (image,) = images_of({"images": [entry], "base": "", "debian_suite": debian_suite})
        if image.reference not in present(api, [image.reference]):
            if not isinstance(image.base, str) and not cache.sound(image.base_reference):
                bootstrap(image.base, cache)
            if not cache.sound(image.reference, image.our_base_reference):
                build(api, image, cache, "the engine")
            load(api, image.reference, cache, "the engine", image.our_base_reference)
    return image.reference


def start_container(
    api: Any, image: str, configs: Sequence[Mapping[str, Any]], files: Mapping[str, bytes], **options: Any
) -> str:
    """Start a container with the first of *configs* that the engine allows; return its ID.

    *files* are archives, by the directories where they are unpacked before it starts.
    """
    for host_config in configs:
        container = str(api.create_container(image, host_config=host_config, **options)["Id"])
        for directory, archive in files.items():
            api.put_archive(container, directory, archive)
        try:
            api.start(container)
        except docker.errors.APIError as error:
            containers.remove(api, container)
            if not containers.is_refused_privilege(error):
                raise
        else:
            return container
    raise AssertionError(f"{image} may not have the privileges that an engine in a container needs")
