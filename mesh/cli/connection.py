"""The way to the control plane, and what went wrong on it in a sentence."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import grpc

from mesh.cli import remote
from mesh.cli.addresses import server_address
from mesh.errors import AccessError, MeshError, NotFoundError, StateError, UnreachableError, UsageError
from mesh.local.state import DEFAULT_STATE, State, holder, state_of_run_folder

SECONDS = 10.0
"""A call that only asks or stores something is answered within this time, or the control plane does not answer."""

OPTIONS = (
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # All instances of a mesh come in one message.
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)

NOT_THERE = "Start a mesh with `proa up`, or name it with --state or --server"


def address_of(state: Path | None, server: str | None) -> str:
    """Where the control API is. Raises StateError when no mesh runs on the state folder."""
    if server is not None:
        if state is not None:
            raise UsageError("--server", "both --state and --server are given", "Keep one of them")
        if not server:
            raise UsageError("--server", "this is no address", "Write unix:/path or host:port")
        return server
    folder = _folder(state)
    try:
        return folder.address.read_text().strip()
    except OSError:
        raise StateError(str(folder.folder), "no mesh runs on this state folder", NOT_THERE) from None


def state_of(state: Path | None, server: str | None) -> State:
    """The state folder, for commands that read its files."""
    if server is None:
        return _folder(state)
    address = address_of(state, server)
    if not address.startswith("unix:"):
        raise UsageError("--server", f"the files of the mesh at {address} are not here", "Name its folder with --state")
    return state_of_run_folder(Path(address.removeprefix("unix:")).parent)


def _folder(state: Path | None) -> State:
    folder = State.at(state or DEFAULT_STATE)
    if os.path.exists(folder.folder) and not os.access(folder.folder, os.R_OK | os.X_OK):  # noqa: PTH110 (never raises)
        raise StateError(
            str(folder.folder), "this folder cannot be read", "Ask its owner, or name another with --state"
        )
    return folder


@contextlib.contextmanager
def connected(state: Path | None, server: str | None) -> Iterator[grpc.Channel]:
    """A channel to the control plane. What fails on it comes out as a MeshError."""
    address = address_of(state, server)
    try:
        with _channel(address) as channel:
            yield channel
    except grpc.RpcError as error:
        raise _sentence(address, error) from error


def _channel(address: str) -> grpc.Channel:
    """Plaintext goes through a socket of this machine, and nowhere else."""
    if address.startswith("unix:"):
        return grpc.insecure_channel(address, options=OPTIONS)
    return remote.channel_to(server_address(address), OPTIONS, SECONDS)


def running(state: State) -> int:
    """Process id of the `proa up` on this state folder. Raises StateError when there is none."""
    pid = holder(state)
    if pid is None:
        raise StateError(str(state.folder), "no mesh runs on this state folder", NOT_THERE)
    return pid


def _sentence(address: str, error: grpc.RpcError) -> MeshError:
    details = " ".join((error.details() or "").split())
    match error.code():
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            return UnreachableError(address, "the control plane does not answer", NOT_THERE)
        case grpc.StatusCode.UNIMPLEMENTED:
            return UnreachableError(address, f"this is not the control plane of this Proa ({details})", NOT_THERE)
        case grpc.StatusCode.PERMISSION_DENIED:
            return AccessError(*_parts(details))
        case grpc.StatusCode.NOT_FOUND:
            return NotFoundError(*_parts(details))
        case grpc.StatusCode.INVALID_ARGUMENT:
            return UsageError(*_parts(details))
    return MeshError(*_parts(details))


def _parts(details: str) -> tuple[str, str, str]:
    """What the control plane said, `where: problem. remedy`, in its three parts."""
    where, _, rest = details.partition(": ")
    problem, _, remedy = rest.partition(". ")
    return where, problem, remedy
