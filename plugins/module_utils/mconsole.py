# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The management console of User Mode Linux, as its tool uml_mconsole speaks to it."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

#: where a kernel has its console below the machine's directory, which it is given as uml_dir
SOCKET = Path("uml/mconsole")
_REQUEST = struct.Struct("=IiI512s")  # of the kernel's arch/um/drivers/mconsole.h: magic number, version, length, text
_MAGIC, _VERSION = 0xCAFEBABE, 2


def send(path: Path, command: str) -> None:
    """Give the kernel behind the socket a command; its answer, a datagram, is not waited for."""
    directory = os.open(path.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as console:
            console.bind("")  # a name of the system's choice, to answer to
            request = _REQUEST.pack(_MAGIC, _VERSION, len(command), command.encode())
            # the path itself may be too long for a socket
            console.sendto(request, f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
