# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""docker-machine's commands and their flags: how they are described, and how they are read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from stand_in.go_text import help_table


@dataclass(frozen=True)
class Flag:
    """A flag: a switch when its default is a bool, repeatable when it is a tuple."""

    name: str
    default: str | int | bool | tuple[str, ...]
    usage: str
    variable: str = ""

    def row(self) -> tuple[str, str]:
        name = ", ".join(f"{'-' if len(part) == 1 else '--'}{part}" for part in self.name.split(", "))
        if isinstance(self.default, tuple):
            name += f" [{name} option {name} option]"
        elif not isinstance(self.default, bool):
            name += f' "{self.default}"' if self.default != "" else " "
        return f"   {name}", f"{self.usage} [${self.variable}]" if self.variable else self.usage


@dataclass(frozen=True)
class Command:
    """What there is to say of a command."""

    usage: str
    description: str = ""
    flags: tuple[Flag, ...] = ()

    def help(self, name: str) -> str:
        options = " [OPTIONS]" if self.flags else ""
        text = f"Usage: docker-machine {name}{options} [arg...]\n\n{self.usage}\n"
        if self.description:
            text += f"\nDescription:\n   {self.description}\n"
        if self.flags:
            text += "\nOptions:\n   \n" + help_table([flag.row() for flag in self.flags])
        return text


_ONE = "Argument is a machine name."
_SOME = "Argument(s) are one or more machine names."
_SWARM = Flag("swarm", False, "Display the Swarm config instead of the Docker daemon")

COMMANDS = {
    "active": Command(
        "Print which machine is active", flags=(Flag("timeout, t", 10, "Timeout in seconds, default to 10s"),)
    ),
    "config": Command("Print the connection config for machine", _ONE, (_SWARM,)),
    "create": Command(
        "Create a machine",
        "Run 'docker-machine create --driver name --help' to include the create flags for that driver in the help "
        "text.",
    ),
    "env": Command(
        "Display the commands to set up the environment for the Docker client",
        _ONE,
        (
            _SWARM,
            Flag(
                "shell",
                "",
                "Force environment to be configured for a specified shell: [fish, cmd, powershell, tcsh, emacs], "
                "default is auto-detect",
            ),
            Flag("unset, u", False, "Unset variables instead of setting them"),
            Flag("no-proxy", False, "Add machine IP to NO_PROXY environment variable"),
        ),
    ),
    "inspect": Command(
        "Inspect information about a machine",
        _ONE,
        (Flag("format, f", "", "Format the output using the given go template."),),
    ),
    "ip": Command("Get the IP address of a machine", _SOME),
    "kill": Command("Kill a machine", _SOME),
    "ls": Command(
        "List machines",
        flags=(
            Flag("quiet, q", False, "Enable quiet mode"),
            Flag("filter", (), "Filter output based on conditions provided"),
            Flag("timeout, t", 10, "Timeout in seconds, default to 10s"),
            Flag("format, f", "", "Pretty-print machines using a Go template"),
        ),
    ),
    "provision": Command("Re-provision existing machines"),
    "regenerate-certs": Command(
        "Regenerate TLS Certificates for a machine",
        _SOME,
        (
            Flag("force, f", False, "Force rebuild and do not prompt"),
            Flag("client-certs", False, "Also regenerate client certificates and CA."),
        ),
    ),
    "restart": Command("Restart a machine", _SOME),
    "rm": Command(
        "Remove a machine",
        _SOME,
        (
            Flag(
                "force, f",
                False,
                "Remove local configuration even if machine cannot be removed, also implies an automatic yes (`-y`)",
            ),
            Flag(
                "y", False, "Assumes automatic yes to proceed with remove, without prompting further user confirmation"
            ),
        ),
    ),
    "scp": Command(
        "Copy files between machines",
        "Arguments are [[user@]machine:][path] [[user@]machine:][path].",
        (
            Flag("recursive, r", False, "Copy files recursively (required to copy directories)"),
            Flag(
                "delta, d",
                False,
                "Reduce amount of data sent over network by sending only the differences (uses rsync)",
            ),
            Flag("quiet, q", False, "Disables the progress meter as well as warning and diagnostic messages from ssh"),
        ),
    ),
    "ssh": Command("Log into or run a command on a machine with SSH.", "Arguments are [machine-name] [command]"),
    "start": Command("Start a machine", _SOME),
    "status": Command("Get the status of a machine", _ONE),
    "stop": Command("Stop a machine", _SOME),
    "upgrade": Command("Upgrade a machine to the latest version of Docker", _SOME),
    "url": Command("Get the URL of a machine", _ONE),
    "version": Command("Show the Docker Machine version or a machine docker version"),
}

#: as ``create`` lists them
SHARED_FLAGS = [
    Flag("driver, d", "virtualbox", "Driver to create machine with.", "MACHINE_DRIVER"),
    Flag("engine-env", (), "Specify environment variables to set in the engine"),
    Flag("engine-insecure-registry", (), "Specify insecure registries to allow with the created engine"),
    Flag(
        "engine-install-url",
        "https://get.docker.com",
        "Custom URL to use for engine installation",
        "MACHINE_DOCKER_INSTALL_URL",
    ),
    Flag("engine-label", (), "Specify labels for the created engine"),
    Flag("engine-opt", (), "Specify arbitrary flags to include with the created engine in the form flag=value"),
    Flag("engine-registry-mirror", (), "Specify registry mirrors to use", "ENGINE_REGISTRY_MIRROR"),
    Flag("engine-storage-driver", "", "Specify a storage driver to use with the engine"),
    Flag("swarm", False, "Configure Machine to join a Swarm cluster"),
    Flag("swarm-addr", "", "addr to advertise for Swarm (default: detect and use the machine IP)"),
    Flag("swarm-discovery", "", "Discovery service to use with Swarm"),
    Flag("swarm-experimental", False, "Enable Swarm experimental features"),
    Flag("swarm-host", "tcp://0.0.0.0:3376", "ip/socket to listen on for Swarm master"),
    Flag("swarm-image", "swarm:latest", "Specify Docker image to use for Swarm", "MACHINE_SWARM_IMAGE"),
    Flag("swarm-join-opt", (), "Define arbitrary flags for Swarm join"),
    Flag("swarm-master", False, "Configure Machine to be a Swarm master"),
    Flag("swarm-opt", (), "Define arbitrary flags for Swarm master"),
    Flag("swarm-strategy", "spread", "Define a default scheduling strategy for Swarm"),
    Flag("tls-san", (), "Support extra SANs for TLS certs"),
]
DRIVER_FLAGS = {
    "none": [Flag("url", "", "URL of host when no driver is selected")],
    "virtualbox": [
        Flag("virtualbox-boot2docker-url", "",
             "The URL of the boot2docker image. Defaults to the latest available version",
             "VIRTUALBOX_BOOT2DOCKER_URL"),
        Flag("virtualbox-cpu-count", 1, "number of CPUs for the machine (-1 to use the number of CPUs available)",
             "VIRTUALBOX_CPU_COUNT"),
        Flag("virtualbox-disk-size", 20000, "Size of disk for host in MB", "VIRTUALBOX_DISK_SIZE"),
        Flag("virtualbox-host-dns-resolver", False, "Use the host DNS resolver", "VIRTUALBOX_HOST_DNS_RESOLVER"),
        Flag("virtualbox-hostonly-cidr", "192.168.99.1/24", "Specify the Host Only CIDR", "VIRTUALBOX_HOSTONLY_CIDR"),
        Flag("virtualbox-hostonly-nicpromisc", "deny", "Specify the Host Only Network Adapter Promiscuous Mode",
             "VIRTUALBOX_HOSTONLY_NIC_PROMISC"),
        Flag("virtualbox-hostonly-nictype", "82540EM", "Specify the Host Only Network Adapter Type",
             "VIRTUALBOX_HOSTONLY_NIC_TYPE"),
        Flag("virtualbox-hostonly-no-dhcp", False, "Disable the Host Only DHCP Server",
             "VIRTUALBOX_HOSTONLY_NO_DHCP"),
        Flag("virtualbox-import-boot2docker-vm", "", "The name of a Boot2Docker VM to import",
             "VIRTUALBOX_BOOT2DOCKER_IMPORT_VM"),
        Flag("virtualbox-memory", 1024, "Size of memory for host in MB", "VIRTUALBOX_MEMORY_SIZE"),
        Flag("virtualbox-nat-nictype", "82540EM", "Specify the Network Adapter Type", "VIRTUALBOX_NAT_NICTYPE"),
        Flag("virtualbox-no-dns-proxy", False, "Disable proxying all DNS requests to the host",
             "VIRTUALBOX_NO_DNS_PROXY"),
        Flag("virtualbox-no-share", False, "Disable the mount of your home directory", "VIRTUALBOX_NO_SHARE"),
        Flag("virtualbox-no-vtx-check", False,
             "Disable checking for the availability of hardware virtualization before the vm is started",
             "VIRTUALBOX_NO_VTX_CHECK"),
        Flag("virtualbox-share-folder", "",
             "Mount the specified directory instead of the default home location. Format: dir:name",
             "VIRTUALBOX_SHARE_FOLDER"),
        Flag("virtualbox-ui-type", "headless", "Specify the UI Type: (gui|sdl|headless|separate)",
             "VIRTUALBOX_UI_TYPE"),
    ],
}  # fmt: skip


class UsageError(Exception):
    """A flag that is not known, or has no value."""


@dataclass
class Arguments:
    """The words after a command."""

    flags: dict[str, Any]
    words: list[str] = field(default_factory=list)
    wants_help: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.flags[name]


def parse(arguments: Sequence[str], flags: Sequence[Flag]) -> Arguments:
    """Take flags from the first one on, until a word that is none; the words before count as if they came last."""
    names = {name.strip(): flag for flag in flags for name in flag.name.split(",")}
    values: dict[str, Any] = {}
    for flag in flags:
        default = os.environ.get(flag.variable) if flag.variable else None
        values[flag.name.split(",")[0]] = _converted(flag, default) if default is not None else flag.default
    first = next((number for number, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    words = [*arguments[first:], *arguments[:first]]
    while words and words[0].startswith("-") and words[0] not in ("-", "--"):
        name, equals, value = words.pop(0).lstrip("-").partition("=")
        if name in ("h", "help"):
            return Arguments(values, words, wants_help=True)
        found = names.get(name)
        if not found:
            raise UsageError(f"flag provided but not defined: -{name}")
        key = found.name.split(",")[0]
        if isinstance(found.default, bool):
            values[key] = value.lower() in ("", "1", "t", "true")
            continue
        if not equals:
            if not words:
                raise UsageError(f"flag needs an argument: -{name}")
            value = words.pop(0)
        values[key] = [*values[key], value] if isinstance(found.default, tuple) else _converted(found, value)
    if words[:1] == ["--"]:
        words.pop(0)
    return Arguments(values, words)


def _converted(flag: Flag, value: str) -> Any:
    if isinstance(flag.default, bool):
        return value.lower() in ("1", "t", "true")
    if isinstance(flag.default, int):
        try:
            return int(value)
        except ValueError as error:
            raise UsageError(f'invalid value "{value}" for flag -{flag.name}: parse error') from error
    return value.split(",") if isinstance(flag.default, tuple) else value
