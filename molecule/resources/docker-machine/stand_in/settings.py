# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the stand-ins for docker-machine and VirtualBox are set up, and what can be made to fail.

Environment (besides what docker-machine itself reads, MACHINE_STORAGE_PATH above all):

STAND_IN_STATE          VirtualBox's own state: adapters, DHCP servers, VMs. One directory is one computer.
                        Default: $XDG_STATE_HOME/apiary-stand-in, or ~/.local/state/apiary-stand-in
STAND_IN_FAULTS         the directory of faults, default $STAND_IN_STATE/faults
STAND_IN_NETWORKS_CONF  what is read for /etc/vbox/networks.conf
DOCKER_HOST             the engine on which VMs are containers

``VBoxManage`` must be in PATH, as for the real docker-machine, which can use this one, too; it lies beside the stand-in
for docker-machine. It has two calls of its own: ``VBoxManage stand-in-image`` builds the guest's image unless it is
there, which otherwise the first start does; ``VBoxManage stand-in-clear`` removes all that was made: VMs, networks,
state, faults. ``docker-machine stand-in-clear`` is the same, and removes the storage path, too.
What users do in VirtualBox's window is done with it, too:

    VBoxManage controlvm NAME pause | savestate | poweroff      VBoxManage unregistervm --delete NAME
    VBoxManage hostonlyif create; VBoxManage hostonlyif ipconfig vboxnet1 --ip A --netmask M      (an adapter too many)

A fault is a file in the directory of faults. Where a VM is concerned, names of VMs in the file restrict it to these.

In VBoxManage, so that the real docker-machine meets them, too:
    access-denied        hostonlyif ipconfig is refused, whatever the range
    adapter-invisible    a new adapter is not listed
    address-changes      each start leads to another address than the last one
    engine-fails         the guest's engine is not started
    no-lease             nobody answers the guest's DHCP client
    slow                 showvminfo takes as many seconds as the file says
    startvm-fails        startvm fails for want of VT-x
    stop-hangs           the guest does not heed the power button
    version              --version says what the file says
In docker-machine:
    api-limit            GitHub does not name the latest release
    certificate-expired  server certificates that are made from now on have expired
    dies                 killed (SIGKILL) before it prints a line that contains the text in the file
    hangs                never ends when called with the subcommand in the file, such as ls
    offline              nothing but file:// and this computer can be reached
    vboxmanage-missing   VBoxManage is not found in PATH
    vtx-off              the processor does not offer VT-x

Without a fault, a download from GitHub is answered with an ISO that only has the right name inside.
"""

from __future__ import annotations

import os
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]


def state_directory() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(os.environ.get("STAND_IN_STATE") or Path(base) / "apiary-stand-in").absolute()


def networks_conf() -> Path:
    return Path(os.environ.get("STAND_IN_NETWORKS_CONF") or "/etc/vbox/networks.conf")


def fault(name: str) -> str | None:
    """Return what is in the file of a fault; None when it is not asked for."""
    directory = Path(os.environ.get("STAND_IN_FAULTS") or state_directory() / "faults")
    try:
        return (directory / name).read_text().strip()
    except FileNotFoundError:
        return None


def fault_of(name: str, machine: str) -> bool:
    """Say whether a fault is asked for, and for that machine."""
    machines = fault(name)
    return machines is not None and (not machines or machine in machines.split())
