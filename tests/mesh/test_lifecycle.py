"""How a mesh begins and ends."""

import signal
import time
from collections.abc import Callable

import pytest

from mesh.local.foreground import SAME_SIGNAL
from tests.mesh.running import BOOKSTORE, STOPS_WITHIN, RunningMesh, eventually, patience, proa

pytestmark = pytest.mark.envoy


def test_two_meshes_run_side_by_side_and_a_second_one_on_a_state_is_refused(
    launch: Callable[..., RunningMesh], shared: RunningMesh
) -> None:
    one, other = launch(BOOKSTORE), shared

    addresses = [{entry["address"] for entry in mesh.file["workloads"]} for mesh in (one, other)]
    assert not addresses[0] & addresses[1]

    second = proa("up", str(BOOKSTORE), "--state", str(one.state.folder))
    assert second.returncode == 1
    assert f"a mesh runs in this folder already, started by process {one.process.pid}. Stop it with" in second.stderr
    assert one.proxies().keys() == other.proxies().keys()

    ended = one.proa("down")
    assert (ended.returncode, one.wait(within=1)) == (0, 0)
    assert proa("down", "--state", str(one.state.folder)).stdout == f"no mesh runs on {one.state.folder}\n"
    assert len(other.proxies()) == 3


def test_sigterm_ends_everything_in_order_and_ports_are_kept_for_the_next_start(
    launch: Callable[..., RunningMesh],
) -> None:
    """Ctrl-C does the same: every mesh of the tests ends by it (`RunningMesh.end`)."""

    def addresses(mesh: RunningMesh) -> list[tuple[str, str]]:
        return [(one["address"], one["envoy"]["inbound"]) for one in mesh.file["workloads"]]

    mesh = launch(BOOKSTORE)
    before = addresses(mesh)
    started = time.monotonic()
    mesh.interrupt(signal.SIGTERM)

    assert mesh.wait() == 0
    assert time.monotonic() - started < STOPS_WITHIN * patience()
    mesh.assert_nothing_is_left()
    assert addresses(launch(BOOKSTORE)) == before


def test_a_second_signal_kills(launch: Callable[..., RunningMesh], bookstore: Callable[..., object]) -> None:
    """A service that does not end: the first Ctrl-C waits for it, the second does not."""
    mesh = launch(
        bookstore(
            catalog={
                "command": ["/bin/sh", "-c", "trap '' TERM INT; while :; do sleep 1; done"],
                "health": {"type": "none"},
            }
        )
    )
    mesh.interrupt()
    eventually(lambda: "ending: calls that run may end first" in mesh.printed)
    time.sleep(2 * SAME_SIGNAL)
    mesh.interrupt()

    assert mesh.wait(within=5) == 130
    mesh.assert_nothing_is_left()


def test_a_signal_during_the_start_ends_it(launch: Callable[..., RunningMesh]) -> None:
    mesh = launch(BOOKSTORE, ready=False)
    eventually(lambda: mesh.state.address.exists())
    mesh.interrupt()

    assert mesh.wait() == 0
    mesh.assert_nothing_is_left()
