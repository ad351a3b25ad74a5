# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The ISO that machines boot from, and the internet where it is found: GitHub's part is played here."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from stand_in.log import log
from stand_in.settings import fault

LATEST = "v19.03.12"
_API = "https://api.github.com/repos/boot2docker/boot2docker/releases/latest"
_VOLUME_ID_OFFSET, _VOLUME_ID_BYTES = 0x8028, 32


class DownloadError(Exception):
    """Why there is no ISO."""


def write(path: Path, version: str = LATEST) -> None:
    """Write an ISO that has nothing but its name."""
    name = f"Boot2Docker-{version}".ljust(_VOLUME_ID_BYTES)
    path.write_bytes(bytes(_VOLUME_ID_OFFSET) + name.encode() + bytes(4096))


def version(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(_VOLUME_ID_OFFSET)
        volume = file.read(_VOLUME_ID_BYTES)
    if len(volume) < _VOLUME_ID_BYTES:
        raise DownloadError("EOF")
    text = volume.decode(errors="replace").strip()
    if "-v" not in text:
        raise DownloadError('Did not find prefix "-v" in version string')
    return text[text.index("-v") + 1 :]


def _latest() -> str:
    if fault("offline") is not None:
        raise DownloadError(f'Get "{_API}": dial tcp: lookup api.github.com: no such host')
    if fault("api-limit") is not None:
        raise DownloadError(
            "failure getting a version tag from the Github API response (are you getting rate limited by Github?)"
        )
    return LATEST


def update_cache(store: Path, url: str, machine: str) -> None:
    """Have the latest ISO in the cache, unless the machine is to have one of its own."""
    cache = store / "cache"
    if not cache.exists():
        log.info(f"Image cache directory does not exist, creating it at {cache}...", machine)
        cache.mkdir(mode=0o700)
    cached = cache / "boot2docker.iso"
    if url:
        if cached.exists():
            log.info(
                f'Boot2Docker URL was explicitly set to "{url}" at create time, so Docker Machine cannot upgrade this '
                "machine to the latest version.",
                machine,
            )
        return
    if not cached.exists():
        log.info("No default Boot2Docker ISO found locally, downloading the latest release...", machine)
    elif _is_latest(cached, machine):
        return
    else:
        log.info("Default Boot2Docker ISO is out-of-date, downloading the latest release...", machine)
    latest = _latest()
    log.info(f"Latest release for github.com/boot2docker/boot2docker is {latest}", machine)
    source = f"https://github.com/boot2docker/boot2docker/releases/download/{latest}/boot2docker.iso"
    log.info(f"Downloading {cached} from {source}...", machine)
    write(cached, latest)


def _is_latest(cached: Path, machine: str) -> bool:
    try:
        local = version(cached)
    except DownloadError as error:
        log.info(f"Unable to get the local Boot2Docker ISO version: {error}", machine)
        return False
    try:
        return local == _latest()
    except DownloadError as error:
        log.info(f"Unable to get the latest Boot2Docker ISO release version: {error}", machine)
        return True


def copy_to_machine(store: Path, url: str, machine: str) -> None:
    update_cache(store, url, machine)
    cached, own = store / "cache" / "boot2docker.iso", store / "machines" / machine / "boot2docker.iso"
    if not url:
        log.info(f"Copying {cached} to {own}...", machine)
        shutil.copyfile(cached, own)
        return
    log.info(f"Downloading {cached} from {url}...", machine)  # the real one names the cache, too
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        if not Path(parts.path).is_file():
            raise DownloadError(f"open {parts.path}: no such file or directory")
        shutil.copyfile(parts.path, own)
    elif (parts.hostname or "").startswith(("127.", "localhost")):
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - on this computer
                own.write_bytes(answer.read())
        except urllib.error.HTTPError as error:
            own.write_bytes(error.read())  # the real one does not look at the status, either
        except OSError as error:
            raise DownloadError(f'Get "{url}": dial tcp {parts.netloc}: connect: connection refused') from error
    elif fault("offline") is not None:
        raise DownloadError(f'Get "{url}": dial tcp: lookup {parts.hostname}: no such host')
    else:
        write(own)
