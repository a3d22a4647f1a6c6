"""What a call costs in a pair of sidecars as Proa makes them: `make bench-dataplane`.

Writes build/bench/dataplane.json, and prints a table. Two pairs of real Envoys in front of the same service, one as
Proa makes it (`tests/bench/pairs.py`), one as small as a secure call allows, are put under load by turns; the small one
twice in each round, which shows how far two runs of one thing differ here and now. Load and small pair are of the
rulers (RULERS=<folder>). A goal is held against the end of the interval. Numbers of one run may be divided by each
other, nothing else. FULL=1 takes twenty rounds, whatever they take.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from types import ModuleType
from typing import Any

from tests.bench.pairs import NoPairError, Pair, minimal_pair, own_pair, service
from tests.bench.rig import ROOT, load_ruler, missing, record
from tests.bench.routed import path_of, translating, view_of
from tests.ports import free_port

FULL = bool(os.environ.get("FULL"))
METHODS, RETRIED = 1000, 100
SERVICES, OF_EACH = 100, 10
TRANSLATIONS = 7
BUDGET = 36.0
"""Seconds from the beginning to the last round when it is not FULL."""
ROUNDS = 20
FEWEST = 4
"""With fewer there is no interval to speak of."""


@dataclass
class Row:
    """A goal is held against `held`: the end of the interval, where there is one. A goal of None is only to be seen.

    `control` is the small pair over itself: median and interval. Where that is not 1, nothing was measured, and the row
    is not `valid`.
    """

    name: str
    unit: str
    goal: float | None
    value: float
    low: float
    high: float
    held: float
    control: tuple[float, float, float] | None = None
    valid: bool = True

    @property
    def met(self) -> bool | None:
        return None if self.goal is None or not self.valid else self.held <= self.goal

    def __str__(self) -> str:
        said = f"{self.name:<62} {self.value:7.3f} [{self.low:.3f} to {self.high:.3f}] {self.unit:<2}"
        if self.control and not self.valid:
            itself, low, high = self.control
            return f"{said} VOID: the small pair over itself is {itself:.3f} [{low:.3f} to {high:.3f}]; repeat it"
        return said if self.goal is None else f"{said} goal {self.goal:g}  {'met' if self.met else 'NOT MET'}"


def main() -> int:
    # Ends the blocks below as Ctrl-C does, and with them whatever was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = time.monotonic()
    if lacking := missing():
        return finish([], 0, [f"missing: {what}" for what in lacking])
    rulers = load_ruler("rulers")
    rows, rounds, failures = [translation()], 0, []
    try:
        rows[:0], rounds = calls(rulers, rulers.build(ROOT / "build" / "rulers"), began)
    except (rulers.RulerError, NoPairError, OSError) as error:
        failures = [f"{type(error).__name__}: {error}"]
    return finish(rows, rounds, failures)


def translation() -> Row:
    view = view_of(SERVICES, OF_EACH)
    took = [1e3 * translating(view) for _ in range(TRANSLATIONS)]
    name = f"one view of {SERVICES} services with {OF_EACH} methods, translated"
    return Row(name, "ms", 100, median(took), min(took), max(took), median(took))


def calls(rulers: ModuleType, tools: Path, began: float) -> tuple[list[Row], int]:
    """The rows, and of how many rounds they are."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="proa-bench-")))
        application = free_port()
        stack.enter_context(service(tools, application, folder))
        own = stack.enter_context(own_pair(folder, application, METHODS, RETRIED))
        minimal = stack.enter_context(minimal_pair(load_ruler("minimal_pair"), own, application))
        arms = [arm(rulers, tools, pair) for pair in (own, minimal)]
        warm = time.monotonic()
        for run in (*arms, arms[1]):
            run()
        now = time.monotonic()
        rounds = ROUNDS if FULL else rounds_in(began + BUDGET - now, now - warm)
        return ratios(rulers.paired_ratio(*arms, rounds=rounds)), rounds


def arm(rulers: ModuleType, tools: Path, pair: Pair) -> Callable[[], Mapping[str, float]]:
    """Half of the calls are of a method with a retry policy of its own, half of one that would be last in a list."""
    paths = path_of(METHODS - 1), path_of(METHODS - RETRIED - 1)
    loads = [rulers.Load(tools, f"tcp:{pair.port}", pair.pids, ("--path", path)) for path in paths]

    def cpu(result: Mapping[str, Any]) -> float:
        return sum(float(result["cpu_us_per_request"][name]) for name in pair.pids)

    def run() -> dict[str, float]:
        busy, single = [load.saturate(1250) for load in loads], loads[0].serial()
        rps = mean(result["rps"] for result in busy)
        return {"cpu": mean(map(cpu, busy)), "rps": rps, "p50": single["p50_us"], "single": cpu(single)}

    return run


def rounds_in(seconds: float, one: float) -> int:
    return max(FEWEST, min(ROUNDS, int(seconds / one)))


def ratios(compared: Any) -> list[Row]:
    named = {
        "cpu": ("CPU per call at saturation", 1.10),
        "rps": ("calls per second at saturation", None),
        "p50": ("latency one at a time, median", None),
        "single": ("CPU per call one at a time", None),
    }
    rows = []
    for metric, (name, goal) in named.items():
        ratio, control = compared.ratios[metric], compared.control[metric]
        interval = (control.median, control.low, control.high)
        spread = (ratio.median, ratio.low, ratio.high, ratio.high)
        # Where the small pair itself would miss the goal, the run cannot tell, unless all of the interval is above it.
        valid = compared.valid(metric) and (goal is None or control.high <= goal or ratio.low > goal)
        rows.append(Row(f"{name}, over the small pair", "x", goal, *spread, interval, valid))
    return rows


def finish(rows: list[Row], rounds: int, failures: list[str]) -> int:
    for row in rows:
        print(row)
    written = [{**asdict(row), "met": row.met} for row in rows]
    return record("dataplane", written, failures, methods=METHODS, retried=RETRIED, rounds=rounds)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
