# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the options that the image plugins share."""

from __future__ import annotations


class ModuleDocFragment:
    """Used with C(extends_documentation_fragment: [apiary.swarm.images])."""

    DOCUMENTATION = r"""
options:
  images:
    description: The images, each built from a directory.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name without a tag, as in C(apiary/web).
        type: str
        required: true
      context:
        description:
          - The directory with the Dockerfile. With a directory C(base) beside it that has a C(bootstrap.sh), the image
            is built on the image that this makes of the file C(packages) there.
          - With a directory C(base) inside it that has a file C(packages), the image is built on a base of its own,
            made of these by the C(bootstrap.sh) there, or else by the one beside. It is not sent to the engine.
        type: path
        required: true
      tag:
        description: The tag; empty means one that follows from the files, see P(apiary.swarm.image_tag#filter).
        type: str
        default: ""
      args:
        description: Build arguments, for C(ARG) lines of the Dockerfile. They count in the tag, and anybody who has the
          image can read them.
        type: dict
        default: {}
      repository:
        description: The name in a registry, as in C(ann/get-started); empty means O(images[].name).
        type: str
        default: ""
      tags:
        description: Tags in a registry besides the image's own, such as C(latest). They move with every new build.
        type: list
        elements: str
        default: []
  base:
    description:
      - An image to build all on, the Dockerfiles' C(ARG BASE), instead of those made by C(bootstrap.sh); the engine
        that builds pulls it.
      - Where C(bootstrap.sh) cannot work, on a controller that is no Debian system and has no mmdebstrap, empty means
        what each Dockerfile names, if it names one.
    type: str
    default: ""
  debian_suite:
    description: The Debian release that image bases are made of.
    type: str
    default: bookworm
"""

    #: used with C(extends_documentation_fragment: [apiary.swarm.images.cache])
    CACHE = r"""
options:
  cache_dir:
    description: Directory on the controller where archives of images are kept.
    type: path
    required: true
"""

    #: used with C(extends_documentation_fragment: [apiary.swarm.images.registry])
    REGISTRY = r"""
options:
  registry:
    description: The registry, as it stands before the names of images, such as C(127.0.0.1:5000) or C(docker.io).
    type: str
    required: true
  username:
    description: Name of the account that may write to it; empty where it wants no login.
    type: str
    default: ""
  password:
    description: Its password, or a token.
    type: str
    default: ""
"""
