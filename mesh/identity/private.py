"""Files with secrets are for their owner alone. That is looked at before they are used, and not mended in silence."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from mesh.errors import StateError


def check_private(paths: Iterable[Path]) -> None:
    """Raises StateError for the first that others may read or write, with what to do. Links count for nothing.

    Neither does what is gone meanwhile: a process that ends takes files of its database with it.
    """
    for path in paths:
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(found.st_mode):
            continue
        if found.st_uid != os.getuid():
            remedy = f"Run `chown {os.getuid()} {path}` if it is yours"
            raise StateError(str(path), "it belongs to somebody else", remedy)
        if (mode := stat.S_IMODE(found.st_mode)) & 0o077:
            remedy = f"Run `chmod go= {path}`, and exchange the keys in it if somebody may have read them"
            raise StateError(str(path), f"others may read or write it (mode {mode:04o})", remedy)
