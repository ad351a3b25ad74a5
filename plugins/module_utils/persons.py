# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates of other persons for a cluster: each of their own, so that one can be revoked.

``<cluster>/pki/persons/<name>/<serial>.pem`` are the certificates that hold, for their revocation;
``<cluster>/persons/<name>/`` has what is handed over, and may be removed once it was.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from ansible_collections.apiary.swarm.plugins.module_utils.docker_context import exported
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.files import lock, private_directory, write_private
from ansible_collections.apiary.swarm.plugins.module_utils.pki import ensure_certificate, is_good, revoke, revoked

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def cluster_directory(docker: Mapping[str, Any]) -> Path | None:
    """Return the directory of the cluster whose authority an endpoint trusts, if that is one of Apiary's."""
    certificate = docker.get("client_cert")
    directory = Path(str(certificate)).parent.parent if certificate else None
    return directory if directory and (directory / "pki" / "ca-key.pem").exists() else None


def known(directory: Path) -> dict[str, list[Path]]:
    """Return the certificates that hold, by the persons' names."""
    found = sorted((directory / "pki" / "persons").glob("*"))
    return {person.name: sorted(person.glob("*.pem")) for person in found if person.is_dir()}


@dataclass(frozen=True)
class Person:
    """Somebody who is let in."""

    name: str
    #: of the cluster
    directory: Path

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ApiaryError(
                f"access_for is {self.name!r}: it names files, so use letters, digits, dots, hyphens and underscores"
            )

    @property
    def _pki(self) -> Path:
        return self.directory / "pki"

    @property
    def _record(self) -> Path:
        return self._pki / "persons" / self.name

    @property
    def own(self) -> Path:
        """The directory of what is handed over."""
        return self.directory / "persons" / self.name

    @property
    def archive(self) -> Path:
        return self.own / f"{self.name}.tar"

    def holds(self) -> bool:
        """Say whether the key and the certificate are there, and are good for a while."""
        certificate = self.own / "cert.pem"
        if not is_good(self._pki, certificate, self.own / "key.pem", []):
            return False
        return x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number not in revoked(self._pki)

    def let_in(self, context: str, cluster: str, docker: Mapping[str, Any], *, check_mode: bool) -> list[str]:
        """Have a certificate of their own, and a context with it to hand over; return what was done, in words."""
        with lock(self.directory / "lock"):
            is_new = not self.holds()
            if check_mode and is_new:
                return [f"make a certificate for {self.name}", f"write {self.archive}"]
            actions = []
            if not check_mode:
                actions = self._certified(is_new=is_new)
            archive = exported(context, cluster, docker, self._files())
            if not self.archive.exists() or self.archive.read_bytes() != archive:
                actions.append(f"write {self.archive}")
                if not check_mode:
                    write_private(self.archive, archive)
            return actions

    def _certified(self, *, is_new: bool) -> list[str]:
        own = private_directory(self.own)
        if is_new:
            (own / "cert.pem").unlink(missing_ok=True)
        if not ensure_certificate(self._pki, own / "cert.pem", own / "key.pem", self.name, []):
            return []
        content = (own / "cert.pem").read_bytes()
        serial = x509.load_pem_x509_certificate(content).serial_number
        write_private(private_directory(self._record) / f"{serial:x}.pem", content)
        return [f"make a certificate for {self.name}"]

    def _files(self) -> dict[str, bytes]:
        return {
            "ca.pem": (self._pki / "ca.pem").read_bytes(),
            "cert.pem": (self.own / "cert.pem").read_bytes(),
            "key.pem": (self.own / "key.pem").read_bytes(),
        }

    def shut_out(self, *, check_mode: bool) -> list[str]:
        """Revoke all certificates of the person, and remove what was to be handed over; return what was done."""
        with lock(self.directory / "lock"):
            held = known(self.directory).get(self.name, [])
            actions = [f"revoke {len(held)} certificate{'s' if len(held) > 1 else ''} of {self.name}"] if held else []
            if self.own.exists():
                actions.append(f"remove {self.own}")
            if not check_mode:
                if held:
                    revoke(self._pki, (int(path.stem, 16) for path in held))
                for directory in (self._record, self.own):
                    shutil.rmtree(directory, ignore_errors=True)
            return actions
