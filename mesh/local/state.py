"""The state folder of a mesh, kept from start to start, and the run folder of its sockets, gone when it has ended."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.agent.folders import LONGEST_SOCKET, log_file
from mesh.agent.private import write_private
from mesh.errors import StateError
from mesh.identity.private import check_private

DEFAULT_STATE: Final = Path(".proa")
FOLDERS: Final = ("logs", "instances", "workloads")

LONGEST_RUN_FOLDER: Final = LONGEST_SOCKET - len("/0123456789abcdef0123.sock")


@dataclass(frozen=True, slots=True)
class State:
    """Where everything of one mesh lies. `folder` is absolute."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> "State":
        return cls(Path(os.path.abspath(folder)))

    @property
    def lock(self) -> Path:
        """Held by `proa up` for as long as it runs; holds its process id."""
        return self.folder / "lock"

    @property
    def ports(self) -> Path:
        return self.folder / "ports.json"

    @property
    def database(self) -> Path:
        """What the control plane keeps; whoever else reads it does not write."""
        return self.folder / "state.db"

    @property
    def address(self) -> Path:
        """One line: where the control API listens."""
        return self.folder / "address"

    @property
    def mesh_file(self) -> Path:
        return self.folder / "mesh.json"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def control_plane_log(self) -> Path:
        return self.logs / "control-plane.log"

    def log(self, namespace: str, instance: str, part: str = "") -> Path:
        """Output of one instance's service, or of its `envoy` or its `agent`."""
        return log_file(self.folder, namespace, instance, part)

    @property
    def run(self) -> Path:
        """Short, and another one for every state folder."""
        digest = hashlib.sha256(os.fsencode(os.path.realpath(self.folder))).hexdigest()[:8]
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        private = Path(runtime, f"proa-{digest}")
        # After `su` it may still be that of somebody else.
        usable = bool(runtime) and os.access(runtime, os.W_OK | os.X_OK)
        if usable and len(os.fsencode(private)) <= LONGEST_RUN_FOLDER:
            return private
        return Path(f"/tmp/proa-{os.getuid()}-{digest}")  # noqa: S108 - `_private` refuses what is somebody else's

    @property
    def api_socket(self) -> Path:
        return self.run / "api.sock"


@contextlib.contextmanager
def held(state: State) -> Iterator[None]:
    """Both folders, ours alone until the block ends; what a crash has left in them is gone.

    The run folder is removed at the end. Raises StateError when a folder cannot be used, or another `proa up` holds it.
    """
    _make(state.folder)
    if state.lock.exists():
        _closed_to_others(state.folder)
    else:
        _adopt(state.folder)
    with _locked(state):
        for name in FOLDERS:
            _make(state.folder / name)
        check_private((state.folder / "instances").glob("*/sds/**/*"))
        _forget(state)
        _make_run(state.run)
        write_private(state.run / "state", f"{state.folder}\n")
        try:
            yield
        finally:
            _forget(state)


def holder(state: State) -> int | None:
    """Process id of the `proa up` that holds the state folder, or None. Raises StateError where there is none."""
    try:
        lock = state.lock.open()
    except FileNotFoundError:
        remedy = "Start one with `proa up`, or name its folder with --state"
        raise StateError(str(state.folder), "there is no mesh in this folder", remedy) from None
    except OSError as error:
        raise _unusable(state.folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _pid(lock.read())
    return None


def state_of_run_folder(run: Path) -> State:
    """The state of the mesh whose sockets lie in `run`. Raises StateError when no mesh runs there."""
    try:
        return State(Path((run / "state").read_text().rstrip("\n")))
    except OSError as error:
        raise StateError(str(run), "no mesh runs here", "Name its state folder with --state") from error


@contextlib.contextmanager
def _locked(state: State) -> Iterator[None]:
    try:
        lock = os.open(state.lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(state.folder, error) from error
    try:
        if not _lock(lock):
            raise _taken(state.folder, _pid(os.read(lock, 32).decode()))
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


def _lock(lock: int, patience: float = 0.2) -> bool:
    """`holder` has the lock, shared, for as long as it looks; that is no reason to give up."""
    for _ in range(10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(patience / 10)
        else:
            return True
    return False


def _forget(state: State) -> None:
    """Removes what says that a mesh runs here: its addresses and its sockets."""
    for file in (state.address, state.mesh_file):
        file.unlink(missing_ok=True)
    if os.path.lexists(state.run):
        _private(state.run)
        shutil.rmtree(state.run)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise StateError(str(folder), "this is a file, not a folder", "Name another folder with --state") from None
    except OSError as error:
        raise _unusable(folder, error) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise StateError(str(folder), "this folder cannot be read and written", "Name another folder with --state")


def _make_run(folder: Path) -> None:
    """Never one that is there: /tmp is everybody's, and whoever made it may still have the key."""
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        remedy = "Remove what is there, or set XDG_RUNTIME_DIR to a folder of yours"
        raise StateError(str(folder), f"the folder for sockets cannot be made: {reason}", remedy) from error


def _adopt(folder: Path) -> None:
    """Makes an empty folder private; one that holds something of somebody's is left as it is."""
    if any(folder.iterdir()):
        _private(folder.resolve())
        return
    try:
        folder.chmod(0o700)
    except OSError as error:
        raise _unusable(folder, error) from error


def _private(folder: Path) -> None:
    """Refuses a folder into which others may have put something, or may look."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StateError(
            str(folder), "this is not a folder of yours", "Remove it, or name another state folder with --state"
        )
    _closed_to_others(folder)


def _closed_to_others(folder: Path) -> None:
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        remedy = f"Run `chmod 700 {folder}` if that is right, or name another state folder with --state"
        raise StateError(str(folder), "others may look into this folder, and it is not empty", remedy)


def _unusable(folder: Path, error: OSError) -> StateError:
    reason = os.strerror(error.errno or 0).lower()
    return StateError(str(folder), f"the state folder cannot be used: {reason}", "Name another folder with --state")


def _taken(folder: Path, pid: int | None) -> StateError:
    by = f", started by process {pid}" if pid else ""
    remedy = f"Stop it with `proa down --state {folder}`, or name another folder with --state"
    return StateError(str(folder), f"a mesh runs in this folder already{by}", remedy)


def _pid(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isdecimal() else None
