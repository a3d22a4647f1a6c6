"""What a push benchmark is made of: a control plane in a process of its own, and what the rulers put around it."""

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.bench.control_plane import NODE_ID
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
RULERS = Path(os.environ.get("RULERS", ROOT.parent / "shared" / "bench"))
QUIET = 0.1
"""Seconds without a message after which a change is over."""
LIBRARIES = {"libssl-dev": "openssl/ssl.h", "libnghttp2-dev": "nghttp2/nghttp2.h"}


def missing() -> list[str]:
    """What has to be there before anything can be measured. Without gcc nobody looks for what it would need."""
    wanted = {
        f"the rulers (RULERS=<folder>, tried {RULERS.name})": (RULERS / "rulers.py").exists(),
        **{program: shutil.which(program) is not None for program in ("gcc", "make")},
    }
    if wanted["gcc"]:
        wanted |= {library: has_header(header) for library, header in LIBRARIES.items()}
    return [what for what, is_there in wanted.items() if not is_there]


def has_header(name: str) -> bool:
    command = f"echo '#include <{name}>' | gcc -E - >/dev/null 2>&1"
    return subprocess.run(["sh", "-c", command], check=False).returncode == 0


def load_ruler(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, RULERS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def raise_limits() -> None:
    """Each proxy is a connection, and so a file, at both ends."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@dataclass
class Change:
    """What one change cost: milliseconds until 99 % of the proxies had it, and the last; the server's seconds of CPU.

    The ACKs are part of it. `bytes` are those that each proxy received.
    """

    p99: float
    last: float
    cpu: float
    bytes: int


@dataclass
class Server:
    """A control plane of so many services. `ask` answers when a change is published."""

    rulers: ModuleType
    tools: Path
    process: Any
    port: int
    services: int
    tls: Any = None

    @property
    def private_kb(self) -> int:
        private: int = self.rulers.rss_kb(self.process.pid).private
        return private

    @property
    def cpu(self) -> float:
        seconds: float = self.rulers.cpu_seconds(self.process.pid)
        return seconds

    def swarm(self, **options: Any) -> Any:
        """Proxies that ask for what a sidecar asks for, but for ECDS and RTDS, which the ruler does not know."""
        names = {"rds": ["outbound", "inbound/50051"]}
        return self.rulers.Swarm(
            self.tools, self.port, node_id=NODE_ID, modulo=self.services, names=names, tls=self.tls, **options
        )


@dataclass
class Rig:
    rulers: ModuleType
    tools: Path

    @classmethod
    def built(cls, rulers: ModuleType) -> "Rig":
        return cls(rulers, rulers.build(ROOT / "build" / "rulers"))

    @contextmanager
    def server(
        self, services: int, instances: int, *, tls: bool = False, state: Path | None = None, port: int = 0
    ) -> Iterator[Server]:
        with tempfile.TemporaryDirectory() as folder:
            state = state or Path(folder)
            options = ["--services", services, "--instances", instances, "--port", port, *(["--tls"] if tls else [])]
            command = [sys.executable, "-m", "tests.bench.control_plane", "--state", state, *options]
            with self.rulers.Process(*command) as process:
                port = process.answer(timeout=120)["port"]
                identity = self.rulers.Tls(state / "roots.pem", state / "client.pem") if tls else None
                yield Server(self.rulers, self.tools, process, port, services, identity)

    @contextmanager
    def floor(self, proxies: int) -> Iterator[tuple[Any, Any]]:
        """A server that only writes, and its swarm."""
        port = free_port()
        with self.rulers.Floor(self.tools, port) as floor, self.rulers.Swarm(self.tools, port) as swarm:
            if proxies:
                swarm.start(proxies)
            yield floor, swarm


def record(name: str, rows: list[dict[str, Any]], failures: list[str], **more: object) -> int:
    """Says what has failed, and writes build/bench/NAME.json, also when a goal is missed; the exit code."""
    for failure in failures:
        print(f"bench-{name}: {failure}", file=sys.stderr)
    content = {"rows": rows, **more, "failures": failures, "cpus": os.cpu_count(), "load": os.getloadavg()}
    result = ROOT / "build" / "bench" / f"{name}.json"
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(content, indent=2) + "\n")
    return 1 if failures else 0


def change(server: Server, swarm: Any, kind: str, command: str) -> Change:
    """Makes one change and waits until every proxy has it and has said so."""
    swarm.mark(kind)
    used = server.cpu
    changed = time.monotonic()
    server.process.ask(command, timeout=120)
    arrival = swarm.wait(kind)
    swarm.ready(quiet=QUIET)
    assert arrival.n == arrival.of, arrival
    return Change(arrival.ms("p99", changed), arrival.ms("max", changed), server.cpu - used, arrival.bytes // arrival.n)


def least(floor: Any, swarm: Any, kind: str, size: int) -> Change:
    """The same by a server that only writes."""
    swarm.mark(kind)
    used = floor.stats()["cpu_s"]
    pushed = floor.push(kind, size)
    arrival = swarm.wait(kind)
    swarm.ready(quiet=QUIET)
    assert arrival.n == arrival.of, arrival
    return Change(arrival.ms("p99", pushed), arrival.ms("max", pushed), floor.stats()["cpu_s"] - used, size)
