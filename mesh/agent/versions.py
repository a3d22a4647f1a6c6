"""Files that belong together, replaced by one rename: whoever reads them finds those of one version."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CURRENT: Final = "current"


def swap_in(folder: Path, files: Mapping[str, str]) -> None:
    """Puts `files`, text by name, under `folder/current`, a link to a folder that holds all of them.

    The folder before it is kept, since somebody may be reading it; older ones go. Nobody but their owner may read them.
    """
    version = hashlib.sha256("".join(files.values()).encode()).hexdigest()[:16]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = _current(folder)
    if before == version:
        return
    _write_version(folder / version, files)
    link = folder / f"{CURRENT}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(version)
    link.replace(folder / CURRENT)
    for old in folder.iterdir():
        if old.name not in (CURRENT, version, before):
            shutil.rmtree(old, ignore_errors=True)  # it may be no folder of ours


def _current(folder: Path) -> str:
    link = folder / CURRENT
    return str(link.readlink()) if link.is_symlink() else ""


def _write_version(folder: Path, files: Mapping[str, str]) -> None:
    if folder.exists():  # left half-written by a crash, or current long ago
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    for name, text in files.items():
        with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
