"""The file that gets what a child prints."""

import asyncio
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

LARGEST: Final = 10 * 1024 * 1024
"""Bytes from which what is in a log is set aside. One older file is kept."""

LOOK: Final = 1.0
"""Seconds between two looks at how large the logs are. A program that only prints writes 150 MB in that time."""

TAIL: Final = 8 * 1024


def open_log(path: Path) -> int:
    """A descriptor that appends to `path`; made for its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if size(path) > LARGEST:
        set_aside(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


async def keep_short(*paths: Path) -> None:
    """Sets aside what is in a log whenever it has grown too large, until it is cancelled.

    What cannot be done, for example because the disk is full, is tried again.
    """
    while True:
        for path in paths:
            if size(path) > LARGEST:
                with suppress(OSError):
                    await asyncio.to_thread(set_aside, path)
        await asyncio.sleep(LOOK)


def set_aside(path: Path) -> None:
    """Keeps the end of a log, `LARGEST` bytes, as `.1`, and empties it under whoever writes, who goes on at its start.

    What is written in the moment between the two is lost: a program that has the file open cannot be given another.
    """
    older = path.with_name(f"{path.name}.1")
    new = older.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with path.open("rb+") as log:
        with os.fdopen(descriptor, "wb") as kept:
            log.seek(max(0, size(path) - LARGEST))
            shutil.copyfileobj(log, kept, LARGEST // 10)
        # First kept, then emptied: who finds the log empty finds the other, and a crash between the two loses nothing.
        new.replace(older)
        log.truncate(0)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def last_lines(path: Path, since: int = 0, count: int = 5) -> tuple[str, ...]:
    """The last lines that are not blank, of what was written after the first `since` bytes; none without a log."""
    try:
        with path.open("rb") as file:
            grown = size(path)
            file.seek(max(since if since <= grown else 0, grown - TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(line.rstrip() for line in lines if line.strip())[-count:]
