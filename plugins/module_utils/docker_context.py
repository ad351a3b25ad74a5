# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Contexts of the Docker client, as its files are laid out, and the lines that point a shell at an engine.

Format, as docker 28.2 writes and exports it (docker/cli, cli/context/store): ``contexts/meta/<id>/meta.json`` and
``contexts/tls/<id>/docker/{ca,cert,key}.pem`` in the client's directory, where <id> is the SHA-256 of the context's
name. An exported context is a tar archive of ``meta.json`` and ``tls/docker/*.pem``. What else metadata holds is kept
by the client; Apiary's contexts carry the name of their cluster there.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

#: in the metadata of a context: the cluster that it was made for
_CLUSTER_KEY = "apiary.cluster"
#: what the client takes for the name of a context
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.+-]+")
#: file in DOCKER_CERT_PATH → option of an endpoint
TLS_FILES = {"ca.pem": "ca_path", "cert.pem": "client_cert", "key.pem": "client_key"}


def name_problem(name: str) -> str:
    """Return why *name* cannot be a context's; empty if it can."""
    if name == "default":
        return "is the client's own"
    return "" if _NAME.fullmatch(name) else "may have letters, digits and _.+- and must have two of them"


def identity(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def metadata(name: str, cluster: str, docker: Mapping[str, Any]) -> bytes:
    """Return ``meta.json`` of a context that leads to *docker*, an endpoint."""
    is_unchecked = bool(docker.get("tls") and not docker.get("validate_certs"))
    return json.dumps(
        {
            "Name": name,
            "Metadata": {"Description": f"The cluster {cluster}, made by Apiary", _CLUSTER_KEY: cluster},
            "Endpoints": {"docker": {"Host": docker["docker_host"], "SkipTLSVerify": is_unchecked}},
        },
        separators=(",", ":"),
    ).encode()


def tls_files(docker: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the contents of an endpoint's TLS files by their names; none for one without TLS."""
    if not docker.get("tls") and not docker.get("validate_certs"):
        return {}
    found = {}
    for name, option in TLS_FILES.items():
        if path := docker.get(option):
            try:
                found[name] = Path(path).read_bytes()
            except OSError as error:
                raise ApiaryError(
                    f"cannot read {path}: {error.strerror}. playbooks/machines.yml makes it again"
                ) from error
    return found


@dataclass(frozen=True)
class Store:
    """The contexts in a client's directory, the one that DOCKER_CONFIG names."""

    directory: Path

    def meta_path(self, name: str) -> Path:
        return self.directory / "contexts" / "meta" / identity(name) / "meta.json"

    def tls_directory(self, name: str) -> Path:
        return self.directory / "contexts" / "tls" / identity(name) / "docker"

    def owner(self, name: str) -> str | None:
        """Return the cluster that the context was made for: empty if not by Apiary; None where there is no context."""
        path = self.meta_path(name)
        try:
            found = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ApiaryError(f"cannot read the context {name} in {path}: {error}. Remove that directory") from error
        details = found.get("Metadata") if isinstance(found, dict) else None
        return str((details or {}).get(_CLUSTER_KEY) or "") if isinstance(details, dict) else ""

    def files(self, name: str) -> dict[Path, bytes]:
        """Return what there is of the context."""
        tls = self.tls_directory(name)
        paths = [self.meta_path(name), *(sorted(tls.glob("*")) if tls.is_dir() else ())]
        return {path: path.read_bytes() for path in paths if path.is_file()}

    def wanted(self, name: str, cluster: str, docker: Mapping[str, Any]) -> dict[Path, bytes]:
        """Return what there should be of it."""
        tls = {self.tls_directory(name) / file: content for file, content in tls_files(docker).items()}
        return {self.meta_path(name): metadata(name, cluster, docker), **tls}

    def drop_empty_directories(self, name: str) -> None:
        """Remove the directories that only the context has needed; one that holds anything stays."""
        tls, meta = self.tls_directory(name), self.meta_path(name).parent
        for directory in (tls, tls.parent, tls.parent.parent, meta, meta.parent, meta.parent.parent):
            with suppress(OSError):
                directory.rmdir()

    def current(self) -> str:
        """Return the name of the context that the client uses when none is named."""
        return str(self._settings().get("currentContext") or "")

    def without_current(self) -> bytes:
        """Return the client's settings without a current context, and otherwise as they are."""
        settings = {key: value for key, value in self._settings().items() if key != "currentContext"}
        return json.dumps(settings, indent="\t", ensure_ascii=False).encode()

    def _settings(self) -> dict[str, Any]:
        path = self.directory / "config.json"
        try:
            found = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ApiaryError(f"cannot read the settings of the Docker client in {path}: {error}") from error
        return found if isinstance(found, dict) else {}


def exported(name: str, cluster: str, docker: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """Return a context as ``docker context import`` takes it, with *files* for its TLS files; always the same bytes."""
    members: Iterable[tuple[str, bytes | None]] = [
        ("meta.json", metadata(name, cluster, docker)),
        *((("tls", None), ("tls/docker", None)) if files else ()),
        *((f"tls/docker/{file}", files[file]) for file in sorted(files)),
    ]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in members:
            member = tarfile.TarInfo(path)
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o700
                tar.addfile(member)
            else:
                member.size, member.mode = len(content), 0o600
                tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


# Shells

#: shell → its file's ending, how it sets a variable, how it forgets one, and how it reads a file
_SHELLS = {
    "sh": ("sh", "export {}={}", "unset {}", ". {}"),
    "fish": ("fish", "set -gx {} {}", "set -e {}", "source {}"),
    "PowerShell": ("ps1", "$Env:{} = {}", "Remove-Item -ErrorAction Ignore Env:{}", ". {}"),
}
_VARIABLES = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")


def _quoted(value: str, shell: str) -> str:
    if shell == "PowerShell":
        return "'" + value.replace("'", "''") + "'"
    if shell == "fish":
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return "'" + value.replace("'", "'\\''") + "'"


def environment(docker: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that point a client at an endpoint; one that is to be forgotten is empty."""
    is_verified = bool(docker.get("validate_certs") and docker.get("client_cert"))
    return {
        "DOCKER_HOST": str(docker["docker_host"]),
        # any value, be it 0, would have a client use TLS
        "DOCKER_TLS_VERIFY": "1" if is_verified else "",
        "DOCKER_CERT_PATH": str(Path(docker["client_cert"]).parent) if is_verified else "",
    }


def set_lines(docker: Mapping[str, Any], shell: str) -> list[str]:
    """Return the lines that point *shell* at an endpoint."""
    _ending, setting, forgetting, _reading = _SHELLS[shell]
    return [
        setting.format(name, _quoted(value, shell)) if value else forgetting.format(name)
        for name, value in environment(docker).items()
    ]


def unset_lines(shell: str) -> list[str]:
    """Return the lines that take it back."""
    return [_SHELLS[shell][2].format(name) for name in _VARIABLES]


def shell_files(docker: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files that shells read, by their names: for each shell one that sets, and one that takes back."""
    files = {}
    for shell, (ending, *_rest) in _SHELLS.items():
        files[f"env.{ending}"] = "".join(f"{line}\n" for line in set_lines(docker, shell)).encode()
        files[f"unset.{ending}"] = "".join(f"{line}\n" for line in unset_lines(shell)).encode()
    return files


def shell_help(directory: Path, docker: Mapping[str, Any]) -> list[str]:
    """Return how each shell is pointed at the endpoint and back, in words."""
    lines = []
    for shell, (ending, _setting, _forgetting, reading) in _SHELLS.items():
        lines += [f"  {shell}:", *(f"    {line}" for line in set_lines(docker, shell))]
        read = (reading.format(_quoted(str(directory / f"{what}.{ending}"), shell)) for what in ("env", "unset"))
        lines.append(f"    or: {'   and back: '.join(read)}")
    return lines
