"""A real Envoy with the routes of a mesh, in front of services that say who they are. No control plane, no TLS."""

import asyncio
import contextlib
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from mesh.agent.envoy import find
from mesh.model.names import Target
from mesh.model.schema import Method, Schema
from mesh.model.shape import Instance
from mesh.policy.view import ProxyView
from mesh.translate.bootstrap import runtime
from mesh.translate.resources import Resources, instance_resources, resources_for
from tests.builders import a_view, an_instance, documents
from tests.mesh.running import patience
from tests.unit.translate.scenarios import as_json

SECONDS = 15.0
NOWHERE: Mapping[str, int] = {}
NO_RESOLVER = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))


@dataclass
class Service(grpc.GenericRpcHandler):
    """Answers every gRPC method with what it got, as JSON; some methods do more.

    `Fail` answers UNAVAILABLE, `Hang` nothing. Streams: `Watch` has a first answer and then one for each `beat`, `Late`
    only the latter, `Break` the first answer and then UNAVAILABLE.
    """

    name: str
    calls: Counter[str] = field(default_factory=Counter)
    beat: asyncio.Event = field(default_factory=asyncio.Event)

    async def unary(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        self.calls[method] += 1
        if method == "Fail":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "as asked")
        if method == "Hang":
            await asyncio.Event().wait()
        await context.send_initial_metadata([("x-from", self.name)])
        return self.answer(context)

    async def stream(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        self.calls["Watch"] += 1
        yield self.answer(context)
        async for answer in self.late(request, context):
            yield answer

    async def breaks(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        self.calls["Break"] += 1
        yield self.answer(context)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "as asked")

    async def late(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        self.calls["Late"] += 1
        while True:
            await self.beat.wait()
            self.beat.clear()
            yield self.answer(context)

    async def called(self, method: str, times: int) -> None:
        """Returns once it has been; a mirrored call comes when it comes."""
        async with asyncio.timeout(SECONDS):
            while self.calls[method] < times:  # noqa: ASYNC110 # nothing tells how many there have been
                await asyncio.sleep(0.01)

    def answer(self, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        return json.dumps({"name": self.name, "headers": headers, "left": context.time_remaining()}).encode()

    def service(self, details: Any) -> Any:
        """As `grpc.GenericRpcHandler` has it."""
        method = details.method.rpartition("/")[2]

        async def unary(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            return await self.unary(method, context)

        streams = {"Watch": self.stream, "Late": self.late, "Break": self.breaks}
        if method in streams:
            return grpc.unary_stream_rpc_method_handler(streams[method])
        return grpc.unary_unary_rpc_method_handler(unary)


@dataclass
class Routed:
    """`port` is where a caller of the upstream calls; services by the name of their cluster."""

    port: int
    channel: grpc.aio.Channel
    services: dict[str, Service]

    async def call(self, method: str, *metadata: tuple[str, str], timeout: float = SECONDS) -> dict[str, Any]:
        """The answer to a call of `package.Service/Method`."""
        answer = await self.channel.unary_unary(f"/{method}")(b"", metadata=metadata, timeout=timeout)  # type: ignore[type-var]
        found: dict[str, Any] = json.loads(answer)
        return found

    async def status(self, method: str, *metadata: tuple[str, str], timeout: float = SECONDS) -> tuple[str, str]:
        """Name of the status, and the message."""
        try:
            await self.call(method, *metadata, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details() or ""
        return "OK", ""


@asynccontextmanager
async def routed(
    folder: Path, mesh: Iterable[str], upstream: str, *clusters: str, methods: Iterable[Method] = ()
) -> AsyncIterator[Routed]:
    """Routes as the sidecar of workload `web` has them for calls to `shop/<upstream>`, whose methods are known."""
    async with AsyncExitStack() as stack:
        services = {name: Service(name.removeprefix("shop/")) for name in clusters}
        ports = {name: await stack.enter_async_context(_serving(service)) for name, service in services.items()}
        port = await stack.enter_async_context(running(folder, mesh, upstream, ports, methods))
        options = (*NO_RESOLVER, ("grpc.default_authority", upstream))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options))
        yield Routed(port, channel, services)


@asynccontextmanager
async def running(
    folder: Path, mesh: Iterable[str], upstream: str, ports: Mapping[str, int], methods: Iterable[Method] = ()
) -> AsyncIterator[int]:
    """The port at which Envoy takes calls to the upstream; `ports` are those of the services, by cluster."""
    written = documents(*mesh)
    schemas = {("shop", upstream, "v1"): Schema.of(methods)} if methods else {}
    view, instance = a_view(written, "web", schemas), an_instance(written, "web")
    (folder / "config.json").write_text(json.dumps(_config(view, instance, ports, upstream)))
    command = [str(find().path), "-c", "config.json", "--disable-hot-restart", "--concurrency", "1", "-l", "error"]
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stderr=subprocess.PIPE)
    try:
        yield await _listening(folder / "admin.sock", process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@asynccontextmanager
async def _serving(service: Service) -> AsyncIterator[int]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([service])  # type: ignore[list-item]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


def _config(view: ProxyView, instance: Instance, ports: Mapping[str, int], upstream: str) -> dict[str, Any]:
    """What Envoy needs for the one listener of the upstream."""
    config = inlined(resources_for(view), instance_resources(instance), ports)
    static = config["static_resources"]
    static["listeners"] = [one for one in static["listeners"] if one["name"] == f"upstream/{upstream}"]
    return config


def inlined(shared: Resources, own: Resources, ports: Mapping[str, int] = NOWHERE) -> dict[str, Any]:
    """Outbound listeners, routes and clusters in one file, with neither TLS nor anything by discovery."""
    routes = {one.name: {**as_json(one), "validate_clusters": False} for one in shared.routes}
    listeners = [as_json(one) for one in own.listeners if one.name.startswith(("upstream/", "outbound"))]
    for listener in listeners:
        manager = listener["filter_chains"][0]["filters"][-1]["typed_config"]
        manager["route_config"] = routes[manager.pop("rds")["route_config_name"]]
        manager["http_filters"] = manager["http_filters"][-1:]
        manager["access_log"] = []
        listener["address"]["socket_address"]["port_value"] = 0
    clusters = [_static(as_json(one), ports.get(one.name)) for one in shared.clusters]
    return {
        "admin": {"address": {"pipe": {"path": "admin.sock"}}},
        "layered_runtime": {"layers": as_json(runtime())["layers"][:1]},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def _static(cluster: dict[str, Any], port: int | None) -> dict[str, Any]:
    """The cluster with one endpoint, or none, that speaks plaintext."""
    for field_name in ("eds_cluster_config", "transport_socket", "transport_socket_matches"):
        del cluster[field_name]
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}] if port else []
    return {**cluster, "type": "STATIC", "load_assignment": {"cluster_name": cluster["name"], "endpoints": endpoints}}


async def _listening(admin: Path, process: asyncio.subprocess.Process) -> int:
    """The port of the listener, once it is open: a listener is listed before a worker accepts on it."""
    async with asyncio.timeout(SECONDS * patience()):
        while True:
            assert process.returncode is None, (await process.communicate())[1].decode()[-2000:]
            with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
                [started] = (await _asked(admin, "/stats?format=json&filter=^listener_manager.workers_started$"))[
                    "stats"
                ]
                if started["value"] == 1:
                    [listener] = (await _asked(admin, "/listeners?format=json"))["listener_statuses"]
                    port: int = listener["local_address"]["socket_address"]["port_value"]
                    return port
            await asyncio.sleep(0.02)


async def _asked(admin: Path, path: str) -> Any:
    reader, writer = await asyncio.open_unix_connection(str(admin))
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
        answer = (await reader.read()).partition(b"\r\n\r\n")[2]
    finally:
        writer.close()
    start, end = answer.index(b"{"), answer.rindex(b"}")
    return json.loads(answer[start : end + 1])


def cluster(service: str, version: str = "", port: int = 50051) -> str:
    return Target("shop", service, port, version).cluster
