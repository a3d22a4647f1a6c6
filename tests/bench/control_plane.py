"""A control plane of a mesh that does not run: `python -m tests.bench.control_plane`, driven by lines on stdin.

Registry, compiler and xDS are the real ones; the instances are leases that nobody stands behind. Each line is answered
by one line of JSON, the start by one with the port:

    endpoint N    instance N becomes unhealthy, or healthy again
    policy N      a retry policy of service 0, whom every proxy may call, says N retries
    cluster N     service 0 may be answered by one more account
    naive N       1: from now on the routes of each proxy are translated and serialised for it alone; 0: not any more
"""

import argparse
import asyncio
import functools
import json
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import grpc

from mesh.controlplane.compiler import Compiler, _Made
from mesh.controlplane.memory import settle
from mesh.identity.credentials import server_credentials
from mesh.identity.folder import AuthorityFolder
from mesh.identity.key import new_key
from mesh.model.address import Address
from mesh.model.names import OUTBOUND, Identity, InstanceId
from mesh.model.shape import shape_of
from mesh.registry.leases import Addresses, Lease, Report
from mesh.registry.registry import Registry
from mesh.registry.status import StatusBoard
from mesh.registry.store import Store
from mesh.snapshot.named import Named
from mesh.snapshot.resource import resource
from mesh.snapshot.seal import Snapshot
from mesh.snapshot.types import ROUTE
from mesh.translate.resources import _merged, pieces_of
from mesh.xds.cache import Cache
from mesh.xds.peer import admit, admit_anyone
from mesh.xds.server import DiscoveryService, discovery_server, listen
from tests.builders import a_policy, a_workload
from tests.unit.registry.builders import call

NAMESPACE = ACCOUNT = "bench"
NODE_ID = "bench/s%m/s%m-%d"
"""Of swarm: sidecar %d stands for an instance of service %m."""
HEALTHY = Report(healthy=True, agent_pid=1)


class NaiveCompiler(Compiler):
    """While `is_naive`, makes the routes of the outbound port for each proxy by itself."""

    is_naive = False

    def _make(self, lease: Lease, before: _Made | None) -> _Made:
        made = super()._make(lease, before)
        if not self.is_naive:
            return made
        view = self._revision.views.of(shape_of(lease.workload, self._revision.topology))
        pieces = next(pieces for pieces in pieces_of(view) if pieces[0].of == OUTBOUND)
        known = made.snapshot.of(ROUTE)
        routes = Named(
            {**known, OUTBOUND: resource(OUTBOUND, _merged(one.make(one.of) for one in pieces), known[OUTBOUND].needs)}
        )
        return replace(made, snapshot=Snapshot({**made.snapshot.resources, ROUTE: routes}, made.snapshot.version))


async def main() -> None:
    asked = arguments()
    registry = await opened(asked.state, asked.services, asked.instances)
    cache, board = Cache(), StatusBoard(now)
    compiler = NaiveCompiler(registry, cache, board)
    compiling = asyncio.create_task(compiler.run())
    await compiler.caught_up()
    assert not compiler.problems, next(iter(compiler.problems.items()))
    credentials = identities(asked.state, registry) if asked.tls else None
    letting_in = functools.partial(admit, identity_of=registry.identity_of) if credentials else admit_anyone
    server = discovery_server(DiscoveryService(cache, board, letting_in))
    port = listen(server, Address("127.0.0.1", asked.port), credentials)
    await server.start()
    settle()
    say(port=port)
    await obey(commands(registry, compiler), compiler)
    await server.stop(None)
    compiling.cancel()
    await registry.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--services", type=int, required=True)
    parser.add_argument("--instances", type=int, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", action="store_true")
    return parser.parse_args()


async def opened(folder: Path, services: int, instances: int) -> Registry:
    """The documents and changed instances that were there before; a new mesh in a folder that has none."""
    store = await Store.open(folder / "state.db")
    stored = await store.load()
    registry = Registry(store, stored.state, now=now, uptime=uptime)
    if not stored.state.revision:
        await registry.apply(call(*(service(n) for n in range(services))))
    made = (a_lease(registry, n, services) for n in range(instances))
    leases = {lease.id: lease for lease in (*made, *stored.leases)}
    return Registry(store, registry.state, leases.values(), now=now, uptime=uptime, term=timedelta(hours=1))


def service(n: int, account: str = ACCOUNT) -> str:
    return a_workload(f"s{n}", f"port: 50051, serviceAccount: {account}", NAMESPACE)


def a_lease(registry: Registry, n: int, services: int) -> Lease:
    name = f"s{n % services}"
    workload = next(one for one in registry.workloads if one.workload.name == name)
    ports = [Address("127.0.0.1", 10_000 + 3 * n + k) for k in range(3)]
    return Lease(
        id=InstanceId(NAMESPACE, name, f"{name}-{n}"),
        generation=workload.generation,
        workload=workload.workload,
        document=workload.document,
        identity=Identity(registry.state.trust_domain, NAMESPACE, ACCOUNT),
        addresses=Addresses({50051: ports[0]}, {50051: ports[1]}, {}, ports[2], "admin.sock"),
        report=HEALTHY,
        was_healthy=True,
    )


def identities(folder: Path, registry: Registry) -> grpc.ServerCredentials:
    """Those of the server. All proxies have the certificate in `client.pem`."""
    authority = AuthorityFolder.open(folder / "ca", registry.state.trust_domain, now()).authority
    key, who = new_key(), Identity(authority.trust_domain, NAMESPACE, ACCOUNT)
    leaf = authority.issue(key.csr, who, (), now(), timedelta(hours=1))
    (folder / "client.pem").write_text(leaf.chain_pem + key.pem)
    (folder / "roots.pem").write_text(authority.bundle_pem)
    return server_credentials(lambda: authority, now)


Commands = dict[str, Callable[[int], Coroutine[Any, Any, object]]]


def commands(registry: Registry, compiler: NaiveCompiler) -> Commands:
    leases = list(registry.leases)

    async def endpoint(n: int) -> None:
        report = registry.leases[leases[n]].report
        await registry.report(leases[n], replace(report, healthy=not report.healthy))

    async def policy(n: int) -> None:
        spec = f"{{targetRefs: [{{kind: Service, name: s0}}], retry: {{numRetries: {n}}}}}"
        await registry.apply(call(a_policy("retry", spec, NAMESPACE)))

    async def cluster(n: int) -> None:
        await registry.apply(call(service(0, f"{ACCOUNT}-{n}")))

    async def naive(n: int) -> None:
        compiler.is_naive = bool(n)

    return {"endpoint": endpoint, "policy": policy, "cluster": cluster, "naive": naive}


async def obey(known: Commands, compiler: Compiler) -> None:
    """Until stdin ends."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).split():
        await known[line[0].decode()](int(line[1]))
        await compiler.caught_up()
        say(done=True)


def say(**answer: object) -> None:
    print(json.dumps(answer), flush=True)


def now() -> datetime:
    return datetime.now(UTC)


def uptime() -> timedelta:
    return timedelta(seconds=monotonic())


if __name__ == "__main__":
    asyncio.run(main())
