"""How fast a mesh starts, and what it costs: `make bench-start`. Writes build/bench/start.json.

Each row has what was measured, and where there is a goal, whether it was met. Memory is read from /proc, so only on
Linux.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
BOOKSTORE = ROOT / "services" / "bookstore" / "mesh.yaml"
PROA = Path(sys.executable).with_name("proa")
RESULT = ROOT / "build" / "bench" / "start.json"

STARTS = 3
BUDGET = 40.0
"""Seconds for all of it; what has not begun by then is left out."""

SETTLE = 2.0
"""Seconds that processes run before their memory is read."""


@dataclass
class Row:
    name: str
    unit: str
    value: float
    goal: float | None
    values: list[float]

    @property
    def met(self) -> bool | None:
        return None if self.goal is None else self.value <= self.goal


def main() -> int:
    deadline = time.monotonic() + BUDGET
    starts: list[float] = []
    memory: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="proa-bench-") as folder:
        while len(starts) < STARTS and time.monotonic() < deadline - max(starts, default=0.0) - 5.0:
            state = Path(folder) / str(len(starts))
            took, memory = measure(state)
            starts.append(took)
    rows = [
        Row("start: proa up to mesh ready, three services", "s", median(starts), 6.0, starts),
        largest("memory of an Envoy, private", memory["envoy"], "private", 20.0),
        largest("memory of an Envoy, resident", memory["envoy"], "rss"),
        largest("memory of an agent, private", memory["agent"], "private"),
        largest("memory of an agent, resident", memory["agent"], "rss", 45.0),
        largest("memory of the control plane, resident", memory["control plane"], "rss"),
    ]
    print(*map(line, rows), sep="\n")
    save(rows)
    return 0


def measure(state: Path) -> tuple[float, dict[str, list[dict[str, float]]]]:
    """Seconds to `mesh ready`, and the memory of what runs then, in MB, by kind of process."""
    began = time.monotonic()
    process = subprocess.Popen(
        [PROA, "up", BOOKSTORE, "--state", state], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    try:
        ready = next((line for line in process.stdout if line.startswith("mesh ready")), None)
        took = time.monotonic() - began
        assert ready is not None, "the mesh did not get ready"
        time.sleep(SETTLE)
        return took, memory_of(json.loads((state / "mesh.json").read_text()))
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


def memory_of(mesh: dict[str, Any]) -> dict[str, list[dict[str, float]]]:
    workloads = mesh["workloads"]
    return {
        "envoy": [smaps(one["envoy"]["pid"]) for one in workloads],
        "agent": [smaps(one["agent"]["pid"]) for one in workloads],
        "control plane": [smaps(mesh["control_plane"]["pid"])],
    }


def smaps(pid: int) -> dict[str, float]:
    """Resident and private memory of a process, in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kilobytes = {name: int(number) for name, number in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return {"rss": kilobytes["Rss"] / 1024, "private": private / 1024}


def largest(name: str, processes: list[dict[str, float]], kind: str, goal: float | None = None) -> Row:
    values = [process[kind] for process in processes]
    return Row(name, "MB", max(values), goal, values)


def line(row: Row) -> str:
    goal = "" if row.goal is None else f"  goal {row.goal:g}  {'met' if row.met else 'NOT MET'}"
    return f"{row.name:<46} {row.value:7.2f} {row.unit:<2}{goal}"


def save(rows: list[Row]) -> None:
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    content = {"rows": [{**asdict(row), "met": row.met} for row in rows], "cpus": os.cpu_count()}
    RESULT.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
