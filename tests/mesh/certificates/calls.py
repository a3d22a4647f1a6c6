"""Calls that must not fail while certificates change, and what a mesh says of them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.mesh.certificates.fresh import Fresh, fresh
from tests.mesh.load import Load, connected, get_book, get_stock, load, place_order
from tests.mesh.running import RunningMesh, admin

PAUSE, PAUSE_OF_ORDERS = 0.1, 0.4
"""Seconds between two calls of a worker. A step takes longer, a handshake costs a lot, and an order twice as much."""


@asynccontextmanager
async def calling(mesh: RunningMesh, short: Path, pause: float = PAUSE) -> AsyncIterator[tuple[Load, Fresh]]:
    """Calls over connections that stay, with new ones for each call, and of one service to another; none may fail."""
    async with (
        fresh(mesh, "orders", "inventory", short) as envoy,
        connected(envoy.address) as anew,
        connected(mesh.upstream("orders", "catalog")) as catalog,
        connected(mesh.instance("orders")["address"]) as orders,
        load(get_stock(anew), get_book(catalog), pause=pause) as calls,
        load(place_order(orders), pause=PAUSE_OF_ORDERS) as placed,
    ):
        before = await envoy.handshakes()
        yield calls, envoy
        assert await envoy.handshakes() > before + 50
    assert calls.failures + placed.failures == []


def authority(mesh: RunningMesh) -> dict[str, Any]:
    done = mesh.proa("ca", "status", "-o", "json")
    if done.returncode:
        return {"step": "", "waitsFor": [], "problem": done.stderr}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def in_use(mesh: RunningMesh) -> tuple[set[str], set[str]]:
    """Serial numbers of all roots and all leaves that any Envoy has, by its own word."""
    shown = [one for entry in mesh.file["workloads"] for one in admin(entry, "/certs")["certificates"]]
    roots = {each["serial_number"].lstrip("0") for one in shown for each in one["ca_cert"]}
    return roots, {each["serial_number"].lstrip("0") for one in shown for each in one["cert_chain"]}
