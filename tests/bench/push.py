"""How fast a change reaches a thousand proxies, against a server that only writes: `make bench-push`.

Writes build/bench/push.json. The proxies are simulated and the floor is given, both by the rulers (RULERS=<folder>);
the server is `proa debug xds`, the same that serves a mesh. Numbers of one run may be divided by each other, nothing
else. FULL=1 also measures 5,000 proxies.
"""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Packed

from mesh.api.proa.v1 import raw_xds_pb2, raw_xds_pb2_grpc
from mesh.model.documents import Documents
from mesh.model.names import Target
from mesh.model.topology import Address, Endpoint
from mesh.model.workload import NOWHERE
from mesh.snapshot.resource import Resource, resource
from mesh.snapshot.types import LISTENER, ROUTE
from mesh.translate.endpoint import load_assignment
from mesh.translate.resources import Resources, resources_for
from tests.builders import a_view, a_workload, documents

ROOT = Path(__file__).parents[2]
PROA = Path(sys.executable).with_name("proa")
RESULT = ROOT / "build" / "bench" / "push.json"
RULERS = Path(os.environ.get("RULERS", ROOT.parent / "shared" / "bench"))
FULL = bool(os.environ.get("FULL"))

SERVICES = 100
ENDPOINTS = 10
ROUNDS = 5
BUDGET = 40.0
"""Seconds for all of it in the default form; what has not begun by then is left out."""


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
    if missing := [what for what, is_there in requirements().items() if not is_there]:
        print(f"bench-push: missing: {', '.join(missing)}", file=sys.stderr)
        save([], missing)
        return 1
    rulers = load_rulers()
    tools = rulers.build(ROOT / "build" / "rulers")
    deadline = time.monotonic() + (600 if FULL else BUDGET)
    rows: list[Row] = []
    for proxies in (1000, 5000) if FULL else (1000,):
        rows += measure(rulers, tools, proxies, deadline)
    print(*map(line, rows), sep="\n")
    save(rows, [])
    return 0


def requirements() -> dict[str, bool]:
    header = subprocess.run(
        ["sh", "-c", "echo '#include <nghttp2/nghttp2.h>\n#include <openssl/ssl.h>' | gcc -E - >/dev/null 2>&1"],
        check=False,
    )
    return {
        f"the rulers (RULERS=<folder>, tried {RULERS.name})": (RULERS / "rulers.py").exists(),
        "gcc": shutil.which("gcc") is not None,
        "libssl-dev and libnghttp2-dev": header.returncode == 0,
    }


def load_rulers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rulers", RULERS / "rulers.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["rulers"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure(rulers: ModuleType, tools: Path, proxies: int, deadline: float) -> list[Row]:
    shared, assignments = mesh_of(SERVICES)
    with server() as (port, api, pid):
        set_state(api, shared, assignments)
        own = rulers.rss_kb(pid).private
        with rulers.Swarm(tools, port, names={"rds": ["outbound"]}) as swarm:
            swarm.start(proxies)
            memory = (rulers.rss_kb(pid).private - own) / proxies
            times, cpu = against_floor(rulers, tools, swarm, api, pid, proxies, deadline)
            before = swarm.stats()["resources"]
            swarm.reconnect(proxies)
            resent = swarm.stats()["resources"] - before
    n = f"{proxies} proxies, {SERVICES} services"
    return [
        Row(f"{n}: one endpoint change, p99 over floor", "x", median(times), 6.0, times),
        Row(f"{n}: one endpoint change, CPU over floor", "x", median(cpu), 16.0, cpu),
        Row(f"{n}: private memory per proxy, plaintext", "KB", memory, 60.0, [memory]),
        Row(f"{n}: resources sent again on reconnect", "", resent, 0.0, [resent]),
    ]


def against_floor(
    rulers: ModuleType, tools: Path, swarm: Any, api: Any, pid: int, proxies: int, deadline: float
) -> tuple[list[float], list[float]]:
    """Per round: p99 and CPU of one endpoint change, divided by those of a server that only writes."""
    times: list[float] = []
    cpu: list[float] = []
    port = free_port()
    with rulers.Floor(tools, port) as floor, rulers.Swarm(tools, port) as least_swarm:
        least_swarm.start(proxies)
        for n in range(ROUNDS):
            if n and time.monotonic() > deadline:
                break
            swarm.mark("eds")
            used = rulers.cpu_seconds(pid)
            changed = time.monotonic()
            change_endpoint(api, n)
            arrival = swarm.wait("eds")
            swarm.ready()
            used = rulers.cpu_seconds(pid) - used
            least_swarm.mark("eds")
            least_used = floor.stats()["cpu_s"]
            pushed = floor.push("eds", arrival.bytes // arrival.n)
            least = least_swarm.wait("eds")
            least_used = floor.stats()["cpu_s"] - least_used
            assert arrival.n == least.n == proxies, (arrival, least)
            times.append(arrival.ms("p99", changed) / least.ms("p99", pushed))
            cpu.append(used / least_used)
    return times, cpu


def mesh_of(services: int) -> tuple[Resources, list[Resource]]:
    """What every proxy of a mesh of so many services has, and the endpoints of all of them."""
    mesh: Documents = documents(*(a_workload(f"s{n}") for n in range(services)))
    targets = [Target("shop", f"s{n}", 50051) for n in range(services)]
    return resources_for(a_view(mesh, "s0")), [assignment(target, 0) for target in targets]


def assignment(target: Target, change: int) -> Resource:
    endpoints = [Endpoint(Address("127.0.0.1", 20_000 + change + n)) for n in range(ENDPOINTS)]
    return resource(target.cluster, load_assignment(target, endpoints, NOWHERE))


def set_state(api: Any, shared: Resources, assignments: list[Resource]) -> None:
    messages = [*shared.clusters, *shared.routes]
    sealed = [resource(message.name, message) for message in messages]
    listener = Packed(type_url=LISTENER)
    api.Set(
        raw_xds_pb2.RawXdsSetRequest(
            node_id="*",
            resources=[
                *(raw(one) for one in sealed if one.type_url != ROUTE or one.name == "outbound"),
                *(raw(one) for one in assignments),
                raw_xds_pb2.RawResource(name="outbound", resource=listener, version="1"),
            ],
        )
    )


def change_endpoint(api: Any, n: int) -> None:
    target = Target("shop", f"s{n}", 50051)
    api.Set(raw_xds_pb2.RawXdsSetRequest(node_id="*", resources=[raw(assignment(target, n + 1))]))


def raw(one: Resource) -> raw_xds_pb2.RawResource:
    packed = Packed(type_url=one.type_url, value=one.value)
    return raw_xds_pb2.RawResource(name=one.name, resource=packed, version=one.version)


@contextmanager
def server() -> Iterator[tuple[int, Any, int]]:
    """The xDS port, the API and the process id of a server that holds nothing yet."""
    command = [PROA, "debug", "xds", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        _, _, xds, _, api = process.stdout.readline().split()
        with grpc.insecure_channel(api) as channel:
            yield Address.parse(xds).port, raw_xds_pb2_grpc.RawXdsStub(channel), process.pid
    finally:
        process.terminate()
        process.wait(timeout=10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def line(row: Row) -> str:
    goal = "" if row.goal is None else f"  goal {row.goal:g}  {'met' if row.met else 'NOT MET'}"
    return f"{row.name:<66} {row.value:8.2f} {row.unit:<2}{goal}"


def save(rows: list[Row], missing: list[str]) -> None:
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "rows": [{**asdict(row), "met": row.met} for row in rows],
        "missing": missing,
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
    }
    RESULT.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
