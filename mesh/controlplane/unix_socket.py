"""The unix socket of the API: its owner's alone, replaced when it is stale, never taken from a live process."""

import os
import socket
import stat
from pathlib import Path
from typing import Final

from mesh.errors import StartError

LONGEST: Final = 103
"""Bytes of a unix path: 107 on Linux, 103 on macOS."""


def claim(path: Path) -> None:
    """Makes `path` free to be bound, in a folder that only its owner may enter. Raises StartError."""
    if len(os.fsencode(path)) > LONGEST:
        problem = f"the path of the socket is longer than {LONGEST} bytes"
        raise StartError(str(path), problem, "Set XDG_RUNTIME_DIR to a folder with a shorter path")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_folder(path.parent)
        if os.path.lexists(path):
            _remove_stale(path)
    except OSError as error:
        raise StartError(str(path), f"the socket cannot be made: {error.strerror}", "Choose another folder") from error


def protect(path: Path) -> None:
    """Nobody but its owner may connect."""
    path.chmod(0o600)


def _check_folder(folder: Path) -> None:
    found = folder.stat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        remedy = f"Run `chmod 700 {folder}` if it is yours, else choose another folder"
        raise StartError(str(folder), "others may enter the folder of the socket", remedy)


def _remove_stale(path: Path) -> None:
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise StartError(str(path), "something that is not a socket is in its place", "Move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise StartError(str(path), "another control plane listens there", "Stop it, or use another state folder")
