"""Files and folders that are their owner's alone."""

import contextlib
import fcntl
import os
import stat
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Replaces the file at once: a reader finds the one before or the one after, never half of one. Raises OSError."""
    new = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def keep_private(path: Path, text: str) -> bool:
    """As `write_private`, where that is not there already; whether it was not."""
    if path.exists() and path.read_bytes() == text.encode():
        return False
    write_private(path, text)
    return True


def is_private(folder: Path) -> bool:
    """Whether it is a folder, not a link to one, into which nobody but this user may look. Raises OSError."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077


def claim(folder: Path) -> bool:
    """Takes the folder for this process, until that ends; False when another one has it. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True
