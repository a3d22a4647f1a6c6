"""A small control plane, and agents that talk to it: real processes, real Envoys."""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from mesh.api.proa.v1 import agents_pb2, agents_pb2_grpc, tokens_pb2, tokens_pb2_grpc
from mesh.identity.ca import CertificateAuthority, new_root, serial
from mesh.model.names import Identity

Eventually = Callable[[Callable[[], object]], Awaitable[None]]

DEADLINE = 60.0
"""Seconds: far more than anything takes, also on a busy machine."""
IDENTITY = Identity("proa.local", "shop", "orders")


async def _eventually(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE} s"
        await asyncio.sleep(0.02)


@pytest.fixture
def eventually() -> Eventually:
    """`await eventually(condition)` returns as soon as the condition holds, and fails when it never does."""
    return _eventually


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def running() -> Callable[[int], bool]:
    """Whether a process still runs; a zombie does not."""
    return runs


class Tokens(tokens_pb2_grpc.TokenServiceServicer):
    async def CreateToken(self, request: tokens_pb2.CreateTokenRequest, context: Any) -> Any:
        return tokens_pb2.CreateTokenResponse(token="a token")


class ControlPlane(agents_pb2_grpc.AgentServiceServicer):
    """What an agent sees of a control plane. Its Envoys have their listeners from the bootstrap."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.plan = agents_pb2.LaunchPlan()
        self.knows_workload = True
        self.lifetime = timedelta(hours=1)
        self.renew_after = timedelta(minutes=30)
        self.on_hello: Callable[[agents_pb2.Hello], object] = lambda _: None
        self.hellos: list[agents_pb2.Hello] = []
        self.reports: list[agents_pb2.InstanceReport] = []
        self.events: list[str] = []
        self.may_answer_drain = asyncio.Event()
        self.may_answer_drain.set()
        self.authority = CertificateAuthority(*new_root("proa.local", datetime.now(UTC)))

    @property
    def report(self) -> agents_pb2.InstanceReport:
        """The newest one."""
        return self.reports[-1] if self.reports else agents_pb2.InstanceReport()

    @property
    def trust(self) -> agents_pb2.Trust:
        authority = self.authority
        roots = map(serial, authority.roots)
        return agents_pb2.Trust(bundle_pem=authority.bundle_pem, roots=roots, issuer=authority.issuer)

    async def start(self) -> None:
        self._server = grpc.aio.server()
        agents_pb2_grpc.add_AgentServiceServicer_to_server(self, self._server)
        tokens_pb2_grpc.add_TokenServiceServicer_to_server(Tokens(), self._server)
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(grace=None)

    async def GetLaunchPlan(self, request: agents_pb2.GetLaunchPlanRequest, context: Any) -> Any:
        if not self.knows_workload:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no workload {request.workload}")
        return agents_pb2.GetLaunchPlanResponse(plan=self.plan)

    async def SignCertificate(self, request: agents_pb2.SignCertificateRequest, context: Any) -> Any:
        now = datetime.now(UTC)
        leaf = self.authority.issue(request.csr, IDENTITY, ["localhost"], now, self.lifetime)
        response = agents_pb2.SignCertificateResponse(
            chain_pem=leaf.chain_pem, bundle_pem=self.authority.bundle_pem, serial=leaf.serial, trust=self.trust
        )
        response.not_after.FromDatetime(leaf.not_after)
        response.renew_at.FromDatetime(now + self.renew_after)
        return response

    async def Attach(self, requests: AsyncIterator[agents_pb2.AttachRequest], context: Any) -> Any:
        async for request in requests:
            self.events.append(str(request.WhichOneof("event")))
            match request.WhichOneof("event"):
                case "hello":
                    self.hellos.append(request.hello)
                    self.on_hello(request.hello)
                    bootstrap = json.dumps(static_bootstrap(request.hello.addresses))
                    attached = agents_pb2.Attached(node_id="shop/orders/orders-0", bootstrap=bootstrap)
                    yield agents_pb2.AttachResponse(attached=attached)
                case "report":
                    self.reports.append(request.report)
                case "drain":
                    await self.may_answer_drain.wait()
                    yield agents_pb2.AttachResponse(drained=agents_pb2.Drained())


def static_bootstrap(at: agents_pb2.Addresses) -> dict[str, Any]:
    """An Envoy that has at once what xDS would bring: mutual TLS inbound, plain upstreams."""
    inbound = [_listener(f"inbound/{n}", "inbound", address, f"app/{n}", _tls()) for n, address in at.inbound.items()]
    plain = [_listener(f"upstream/{key}", "outbound", address, "nowhere") for key, address in at.upstreams.items()]
    outbound = _listener("outbound", "outbound", at.outbound, "nowhere")
    apps = [_cluster(f"app/{n}", address) for n, address in at.app.items()]
    return {
        "node": {"id": "shop/orders/orders-0", "cluster": "orders"},
        "admin": {"address": {"pipe": {"path": at.admin, "mode": 0o600}}},
        "static_resources": {
            "listeners": [*inbound, *plain, outbound],
            "clusters": [*apps, _cluster("nowhere", "127.0.0.1:9")],
        },
    }


def _listener(name: str, prefix: str, address: str, cluster: str, tls: dict[str, Any] | None = None) -> dict[str, Any]:
    proxy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": prefix,
        "cluster": cluster,
    }
    chain = {"filters": [{"name": "tcp_proxy", "typed_config": proxy}], **({"transport_socket": tls} if tls else {})}
    return {
        "name": name,
        "stat_prefix": prefix,
        "traffic_direction": prefix.upper(),
        "address": _socket(address),
        "enable_reuse_port": False,
        "filter_chains": [chain],
    }


def _tls() -> dict[str, Any]:
    def secret(name: str) -> dict[str, Any]:
        source = {"path": f"sds/current/{name}.json", "watched_directory": {"path": "sds"}}
        return {"name": name, "sds_config": {"path_config_source": source, "resource_api_version": "V3"}}

    context = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [secret("id")],
            "validation_context_sds_secret_config": secret("roots"),
        },
    }
    return {"name": "tls", "typed_config": context}


def _cluster(name: str, address: str) -> dict[str, Any]:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _socket(address)}}]}]
    return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": endpoints}}


def _socket(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


@pytest.fixture
async def control_plane(short_folder: Path) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(f"unix:{short_folder}/api.sock")
    await plane.start()
    yield plane
    await plane.stop()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """For unix sockets, whose paths end at 103 bytes."""
    with tempfile.TemporaryDirectory(prefix="proa-", dir=os.environ["XDG_RUNTIME_DIR"]) as folder:
        yield Path(folder)


@dataclass
class Agent:
    """One agent. `logged` is what it has said."""

    process: asyncio.subprocess.Process
    state: Path
    lifeline: int

    @property
    def logged(self) -> str:
        return (self.state / "agent.log").read_text()

    @property
    def service_output(self) -> str:
        path = self.state / "logs" / "shop.orders-0.log"
        return path.read_text() if path.exists() else ""


StartAgent = Callable[..., Awaitable[Agent]]


@pytest.fixture
async def start_agent(control_plane: ControlPlane, short_folder: Path, tmp_path: Path) -> AsyncIterator[StartAgent]:
    """`await start_agent(*command, …)` starts the agent of an instance with that plan. All of it is gone afterwards."""
    agents: list[Agent] = []

    async def start(*command: str, health: str = "none", **plan: Any) -> Agent:
        control_plane.plan = a_plan(tmp_path, command, health, **plan)
        agents.append(await _agent(control_plane.address, tmp_path / "state", short_folder))
        return agents[-1]

    yield start
    for agent in agents:
        with suppress(ProcessLookupError):
            agent.process.kill()
        await agent.process.wait()
        with suppress(OSError):
            os.close(agent.lifeline)
    left = [pid for report in control_plane.reports for pid in (report.pid, report.envoy_pid) if pid]
    await _eventually(lambda: not any(map(runs, left)))


def a_plan(folder: Path, command: Sequence[str], health: str, **fields: Any) -> agents_pb2.LaunchPlan:
    plan = agents_pb2.LaunchPlan(
        **{
            "command": command,
            "working_directory": str(folder),
            "ports": [agents_pb2.PlannedPort(name="main", number=50051, protocol=agents_pb2.APP_PROTOCOL_TCP)],
            "where": "mesh.yaml:3",
            "identity": IDENTITY.uri,
            "service": "orders",
            "generation": "g1",
        }
        | fields
    )
    plan.health.MergeFrom(agents_pb2.HealthPlan(type=health, path="/", healthy_after=1, unhealthy_after=1))
    plan.health.interval.FromTimedelta(timedelta(milliseconds=200))
    plan.health.timeout.FromTimedelta(timedelta(seconds=2))
    for field, default in (("drain", 5), ("grace", 5)):
        if not plan.HasField(field):
            getattr(plan, field).FromTimedelta(timedelta(seconds=default))
    return plan


async def _agent(server: str, state: Path, run: Path) -> Agent:
    state.mkdir(exist_ok=True)
    reader, writer = os.pipe()
    where = ["--server", server, "--state", str(state), "--run", str(run), "--lifeline", str(reader)]
    who = ["--namespace", "shop", "--workload", "orders", "--instance", "orders-0"]
    with (state / "agent.log").open("a") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "mesh.agent", *where, *who), stderr=log, pass_fds=[reader]
        )
    os.close(reader)
    return Agent(process, state, writer)
