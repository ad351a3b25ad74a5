# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Machines in files: ``machines/NAME/config.json`` under the storage path."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stand_in.drivers import MachineError, NoneDriver, VirtualBoxDriver
from stand_in.go_text import to_json

DRIVERS = {"none": NoneDriver, "virtualbox": VirtualBoxDriver}


@dataclass
class Machine:
    """A machine as its file describes it."""

    config: dict[str, Any]
    driver: NoneDriver

    @property
    def name(self) -> str:
        return str(self.config["Name"])

    @property
    def auth(self) -> dict[str, Any]:
        options: dict[str, Any] = self.config["HostOptions"]["AuthOptions"]
        return options

    @property
    def engine(self) -> dict[str, Any]:
        options: dict[str, Any] = self.config["HostOptions"]["EngineOptions"]
        return options

    @property
    def client_files(self) -> tuple[Path, Path, Path]:
        """The authority's certificate, and the client's certificate and key."""
        return Path(self.auth["CaCertPath"]), Path(self.auth["ClientCertPath"]), Path(self.auth["ClientKeyPath"])


class Store:
    """The storage path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.machines = path / "machines"
        self.certificates = path / "certs"

    def exists(self, name: str) -> bool:
        return (self.machines / name).exists()

    def names(self) -> list[str]:
        if not self.machines.is_dir():
            return []
        return sorted(entry.name for entry in self.machines.iterdir() if entry.is_dir() and entry.name[0] != ".")

    def load(self, name: str) -> Machine:
        if not self.exists(name):
            raise MachineError(
                f'Docker machine "{name}" does not exist. Use "docker-machine ls" to list machines. '
                'Use "docker-machine create" to add a new one.'
            )
        path = self.machines / name / "config.json"
        try:
            config = json.loads(path.read_text())
            if not isinstance(config, dict):
                raise MachineError(
                    "Error getting migrated host: json: cannot unmarshal number into Go value of type host.MetadataV0"
                )
            return Machine({**config, "Name": name}, DRIVERS[config["DriverName"]](config["Driver"]))
        except FileNotFoundError as error:
            raise MachineError(f"open {path}: no such file or directory") from error
        except json.JSONDecodeError as error:
            character = error.doc[error.pos : error.pos + 1].replace("\n", "\\n")
            reason = f"invalid character '{character}'" if character else "unexpected end of JSON input"
            reason += " in string literal" if "control character" in error.msg else ""
            raise MachineError(f"Error getting migrated host: {reason}") from error

    def load_all(self) -> tuple[list[Machine], dict[str, MachineError]]:
        machines, failed = [], {}
        for name in self.names():
            try:
                machines.append(self.load(name))
            except MachineError as error:
                failed[name] = error
        return machines, failed

    def save(self, machine: Machine) -> None:
        directory = self.machines / machine.name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / "config.json"
        new = directory / f"config.json.tmp{os.getpid()}"
        new.write_text(to_json(machine.config))
        new.chmod(0o600)
        path.unlink(missing_ok=True)  # as the real one does, so that for a moment there is none
        new.rename(path)

    def remove(self, name: str) -> None:
        shutil.rmtree(self.machines / name)
