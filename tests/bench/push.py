"""How fast a change reaches a thousand proxies: `make bench-push`.

Writes build/bench/push.json, and prints a table. The proxies are simulated and the floor is given, both by the rulers
(RULERS=<folder>); the server is a real control plane (`tests/bench/control_plane.py`). Numbers of one run may be
divided by each other, nothing else. FULL=1 also measures 5,000 proxies, and takes its time.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.compiling import policy_change
from tests.bench.rig import Rig, Server, change, least, load_ruler, missing, raise_limits, record

FULL = bool(os.environ.get("FULL"))
SERVICES, PROXIES = 100, 1000
MANY_SERVICES, FEWER_PROXIES = 1000, 500
ROUNDS = 5


@dataclass
class Row:
    """`values` are those of the rounds there was time for; `value` is their median. `goal` None is only to be seen."""

    name: str
    unit: str
    goal: float | None
    values: list[float]

    @property
    def value(self) -> float:
        return median(self.values)

    @property
    def met(self) -> bool | None:
        return None if self.goal is None else self.value <= self.goal


def main() -> int:
    rows: list[Row] = []
    if lacking := missing():
        return finish(rows, [f"missing: {what}" for what in lacking])
    raise_limits()
    rulers = load_ruler("rulers")
    try:
        rig = Rig.built(rulers)
    except rulers.RulerError as error:
        return finish(rows, [f"the rulers cannot be built: {error}"])
    failures = []
    for section, arguments in sections():
        try:
            rows += section(rig, *arguments)
        except (rulers.RulerError, AssertionError, OSError) as error:
            failures.append(f"{section.__name__}{arguments}: {type(error).__name__}: {error}")
    return finish(rows, failures)


def sections() -> Iterator[tuple[Callable[..., list[Row]], tuple[int, ...]]]:
    yield compiling, (SERVICES,)
    for proxies in (PROXIES, 5000) if FULL else (PROXIES,):
        yield changes, (SERVICES, proxies)
    yield memory_with_tls, (SERVICES, PROXIES if FULL else FEWER_PROXIES)
    yield large_mesh, (MANY_SERVICES, FEWER_PROXIES)


def compiling(rig: Rig, services: int) -> list[Row]:
    taken = [policy_change(services, number) for number in rounds(8)]
    n = f"{services} services, {services} scopes of ten: a policy, compiled"
    return [
        Row(n, "ms", None, [little * 1e3 for little, _ in taken]),
        Row(f"{n}, over all views anew", "x", None, [little / everything for little, everything in taken]),
    ]


def changes(rig: Rig, services: int, proxies: int) -> list[Row]:
    """And at the end another control plane in its place, for which the ruler names some of the lost connections.

    All come back in one moment, and 5,000 are more than the kernel lets wait (net.core.somaxconn).
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        with rig.server(services, proxies, state=Path(folder)) as server:
            own = server.private_kb
            swarm = stack.enter_context(server.swarm())
            swarm.start(proxies)
            memory = (server.private_kb - own) / proxies
            with rig.floor(proxies) as floor:
                endpoint = [over_floor(server, swarm, *floor, number) for number in rounds(8)]
            policy = [over_naive(server, swarm, number) for number in rounds(6)]
        before, again = swarm.stats()["resources"], []
        if proxies <= PROXIES:
            with rig.server(services, proxies, state=Path(folder), port=server.port):
                swarm.reconnect(proxies)
                again = [swarm.stats()["resources"] - before]
    n = f"{proxies} proxies, {services} services"
    rows = [
        Row(f"{n}: one endpoint, p99 over floor", "x", 6, [times for times, _ in endpoint]),
        Row(f"{n}: one endpoint, CPU over floor", "x", 16, [cpu for _, cpu in endpoint]),
        Row(f"{n}: a policy for all, p99 over naive", "x", 1 / 8, [times for times, _ in policy]),
        Row(f"{n}: a policy for all, CPU over naive", "x", 1 / 5, [cpu for _, cpu in policy]),
        Row(f"{n}: private memory per proxy", "KB", 60, [memory]),
        Row(f"{n}: resources sent again after a restart", "", 0, again),
    ]
    return [row for row in rows if row.values]


def over_floor(server: Server, swarm: Any, floor: Any, floor_swarm: Any, number: int) -> tuple[float, float]:
    one = change(server, swarm, "eds", f"endpoint {number}")
    by_floor = least(floor, floor_swarm, "eds", one.bytes)
    return one.p99 / by_floor.p99, one.cpu / by_floor.cpu


def over_naive(server: Server, swarm: Any, number: int) -> tuple[float, float]:
    """Against the same server, as long as it makes each proxy's routes by themselves."""
    one = change(server, swarm, "rds", f"policy {1 + number % 2}")
    server.process.ask("naive 1")
    naive = change(server, swarm, "rds", f"policy {3 + number % 2}")
    server.process.ask("naive 0")
    return one.p99 / naive.p99, one.cpu / naive.cpu


def memory_with_tls(rig: Rig, services: int, proxies: int) -> list[Row]:
    with rig.server(services, proxies, tls=True) as server:
        own = server.private_kb
        with server.swarm() as swarm:
            swarm.start(proxies)
            memory = (server.private_kb - own) / proxies
    return [Row(f"{proxies} proxies, {services} services: private memory per proxy, mTLS", "KB", 130, [memory])]


def large_mesh(rig: Rig, services: int, proxies: int) -> list[Row]:
    """First configuration: from the first connection to the last routes; the raw bytes after as many connections."""
    first, sent = [], []
    with rig.server(services, proxies) as server:
        for number in rounds(6):
            with server.swarm() as swarm:
                took = connect(swarm, proxies, "rds")
                size = int(swarm.stats()["rx_bytes"]) // proxies
                first.append(took / raw(rig, proxies, size))
                before = swarm.stats()["rx_bytes"]
                change(server, swarm, "cds", f"cluster {number}")
                sent.append((swarm.stats()["rx_bytes"] - before) / 1e6)
    n = f"{proxies} proxies, {services} services"
    return [
        Row(f"{n}: first configuration, over the raw bytes", "x", 3, first),
        Row(f"{n}: one cluster, sent in all", "MB", 1, sent),
    ]


def raw(rig: Rig, proxies: int, size: int) -> float:
    """Seconds that a server takes which only writes: connections, and so many bytes to each."""
    with rig.floor(0) as (floor, swarm):
        connected = connect(swarm, proxies, "cds")
        return connected + least(floor, swarm, "eds", size).last / 1e3


def connect(swarm: Any, proxies: int, kind: str) -> float:
    """Seconds until each of so many proxies has a response of the type."""
    swarm.mark(kind)
    began = time.monotonic()
    swarm.ask(f"start {proxies}")
    took = swarm.wait(kind, proxies).max - began
    swarm.ready()
    return float(took)


def rounds(seconds: float) -> Iterator[int]:
    """Five, or as many as begin in time. At least one."""
    end = time.monotonic() + seconds
    for number in range(ROUNDS):
        if number and time.monotonic() > end and not FULL:
            return
        yield number


def finish(rows: list[Row], failures: list[str]) -> int:
    for row in rows:
        goal = "" if row.goal is None else f"  goal {row.goal:5.3g}  {'met' if row.met else 'NOT MET'}"
        print(f"{row.name:<76} {row.value:8.3f} {row.unit:<2}{goal}")
    return record("push", [{**asdict(row), "value": row.value, "met": row.met} for row in rows], failures)


if __name__ == "__main__":
    sys.exit(main())
