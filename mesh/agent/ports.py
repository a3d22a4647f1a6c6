"""Which ports of this machine belong to whom, chosen once and kept: services dial them."""

import errno
import fcntl
import json
import os
import random
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mesh.errors import StartError, StateError

LOOPBACK: Final = "127.0.0.1"

RANGE: Final = range(20000, 32768)
"""Below the ephemeral ports of Linux (32768) and macOS (49152): an outgoing connection never sits on one of these."""

Owners = dict[str, dict[str, int]]


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether somebody could listen on this port of this machine's address now."""
    with socket.socket() as probe:
        # A connection that has just ended does not count. SO_REUSEPORT stays off: with it, a listener of Envoy or of
        # grpcio would look free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def holder(port: int) -> str:
    """Who listens on this port, for people: `pid 42 (postgres)`; "" when that is not visible to this user."""
    import psutil

    try:
        listening = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
        pid = next((c.pid for c in listening if c.laddr and c.laddr.port == port and c.pid), None)
        return f"pid {pid} ({psutil.Process(pid).name()})" if pid else ""
    except psutil.Error:
        return ""


class PortBook:
    """The ports of all owners, in one file. Several processes may use it at the same time."""

    def __init__(
        self,
        path: Path,
        *,
        free: Callable[[int], bool] = is_free,
        first: Callable[[], int] = lambda: random.choice(RANGE),
    ) -> None:
        self._path = path
        self._free = free
        self._first = first

    def ports_of(self, owner: str) -> dict[str, int]:
        """What `owner` was given last, by name; empty when that is nothing. Free or not."""
        return self._read().get(owner, {})

    def allocate(self, owner: str, names: Sequence[str]) -> dict[str, int]:
        """One port for each name, in that order, none of them another owner's.

        A port that `owner` had for the name is kept if it is still free; compare with `ports_of` to tell. Names that
        are not asked for any more lose theirs. Raises StartError when no port is free, StateError for a spoiled file.
        """
        with self._locked():
            owners = self._read()
            had = owners.pop(owner, {})
            others = {port for ports in owners.values() for port in ports.values()}
            kept = {n: port for n in names if (port := had.get(n)) and port not in others and self._free(port)}
            given: dict[str, int] = {}
            for name in names:
                taken = others.union(had.values(), given.values())
                given[name] = kept.get(name) or self._another(taken)
            self._write({**owners, owner: given})
            return given

    def _another(self, taken: Collection[int]) -> int:
        start = self._first() - RANGE.start
        for offset in range(len(RANGE)):
            port = RANGE[(start + offset) % len(RANGE)]
            if port not in taken and self._free(port):
                return port
        raise StartError(
            str(self._path),
            f"no port from {RANGE.start} to {RANGE.stop - 1} is free",
            "End programs that listen there, or delete this file if the mesh was larger once",
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # The folder, not the file: that one is replaced, and a lock stays with what was replaced.
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _read(self) -> Owners:
        try:
            return _owners(json.loads(self._path.read_text()))
        except FileNotFoundError:
            return {}
        except OSError as error:
            remedy = "See that you may read and write the state folder, or name another one"
            raise StateError(str(self._path), f"it cannot be read: {error.strerror}", remedy) from error
        except ValueError as error:
            raise StateError(
                str(self._path), f"it is no list of ports ({error})", "Delete it; ports are chosen anew then"
            ) from error

    def _write(self, owners: Mapping[str, Mapping[str, int]]) -> None:
        scratch = self._path.with_name(f"{self._path.name}.new")
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(owners, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._path)


def _owners(written: object) -> Owners:
    """Raises ValueError for anything but owners with their ports."""
    if not isinstance(written, dict) or not all(isinstance(ports, dict) for ports in written.values()):
        raise ValueError("not owners with ports")
    return {str(owner): {str(name): int(port) for name, port in ports.items()} for owner, ports in written.items()}
