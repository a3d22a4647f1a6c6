"""Metrics of a real mesh with real Envoys."""

import os
import signal

import pytest

from tests.mesh.running import RETRY, RunningMesh, eventually, taken
from tests.scrape import Values, added, read, values

pytestmark = pytest.mark.envoy


def numbers(mesh: RunningMesh) -> Values:
    return values(read(mesh.file["control_plane"]["metrics"]))


def test_a_change_a_refusal_and_a_lease_that_ends_move_the_numbers(mesh: RunningMesh) -> None:
    start = eventually(lambda: at_rest(mesh, proxies=3))
    assert start["proa_leases", "healthy"] == start["proa_xds_streams",] == 3
    assert start["proa_xds_responses_total", "Listener"] == start["proa_xds_acks_total", "Listener"] >= 3
    assert start["process_resident_memory_bytes",] > 10_000_000

    assert mesh.proa("apply", "-f", str(RETRY)).returncode == 0
    changed = eventually(lambda: at_rest(mesh, proxies=3))
    assert added(changed, start, "proa_revision") == 1
    assert added(changed, start, "proa_change_to_ack_seconds_count") >= 1
    routes = added(changed, start, "proa_xds_responses_total", "RouteConfiguration")
    assert routes == added(changed, start, "proa_xds_acks_total", "RouteConfiguration") >= 1
    assert added(changed, start, "proa_xds_sent_bytes_total", "RouteConfiguration") > 100

    assert mesh.proa("scale", "catalog", "2").returncode == 0
    eventually(lambda: at_rest(mesh, proxies=4), 30)
    assert mesh.proa("scale", "catalog", "1").returncode == 0
    fewer = eventually(lambda: at_rest(mesh, proxies=3), 30)
    assert fewer["proa_leases", "healthy"] == 3
    assert added(fewer, start, "proa_leases_ended_total") == 1

    # A port of its is taken while it is away: an Envoy refuses the listener that should be there.
    entry = mesh.instance("orders")
    host, _, port = entry["envoy"]["upstreams"]["inventory"].partition(":")
    os.kill(entry["envoy"]["pid"], signal.SIGKILL)
    with taken(host, int(port)):
        refused = eventually(lambda: now if (now := numbers(mesh))["proa_proxies", "nacked"] else None, 30)
        assert added(refused, start, "proa_xds_nacks_total", "Listener") >= 1
        assert added(refused, start, "proa_xds_nacks_total", "Cluster") == 0
    mesh.remember()


def at_rest(mesh: RunningMesh, proxies: int) -> Values | None:
    """The numbers, when so many proxies have answered for everything."""
    now = numbers(mesh)
    states = {key[1]: count for key, count in now.items() if key[0] == "proa_proxies" and count}
    return now if states == {"synced": proxies} and now["proa_change_pending_seconds",] == 0 else None
