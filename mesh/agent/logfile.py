"""The file that gets what a child prints."""

import os
from pathlib import Path
from typing import Final

LARGEST: Final = 10 * 1024 * 1024
"""Bytes from which a log is set aside at the next start. One older file is kept."""

TAIL: Final = 8 * 1024


def open_log(path: Path) -> int:
    """A descriptor that appends to `path`; made for its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LARGEST:
        path.replace(path.with_name(f"{path.name}.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def last_line(path: Path, since: int = 0) -> str:
    """The last line that is not blank, of what was written after the first `since` bytes; "" when there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(since, size(path) - TAIL))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
