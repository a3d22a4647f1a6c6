"""The control plane of two sidecars, and whatever they need to start: `python -m tests.bench.pair_control_plane`.

Registry, compiler and xDS are the real ones, and so are bootstraps and secrets, in the folders `web` and `orders` of
`--folder`; agents there are none. Prints one line of JSON when the sidecars may start, and serves until stdin ends.
"""

import argparse
import asyncio
import functools
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from google.protobuf.json_format import MessageToJson

from mesh.agent.sds import write_secrets
from mesh.controlplane.compiler import Compiler
from mesh.identity.ca import CertificateAuthority
from mesh.identity.credentials import server_credentials
from mesh.identity.folder import AuthorityFolder
from mesh.identity.key import new_key
from mesh.model.address import Address
from mesh.model.names import Identity, InstanceId
from mesh.registry.leases import Addresses, Lease, instance_of
from mesh.registry.operations import Desired
from mesh.registry.registry import Registry
from mesh.registry.status import StatusBoard
from mesh.registry.store import Store
from mesh.translate.bootstrap import bootstrap
from mesh.xds.cache import Cache
from mesh.xds.peer import admit
from mesh.xds.server import DiscoveryService, discovery_server, listen
from tests.bench.control_plane import HEALTHY, now, obey, say, uptime
from tests.bench.routed import PORT, mesh_of
from tests.ports import free_port
from tests.unit.registry.builders import call

ADMIN = "admin.sock"


async def main() -> None:
    asked = arguments()
    registry = await opened(asked.folder, mesh_of(asked.methods, asked.retried), asked.application)
    authority = AuthorityFolder.open(asked.folder / "ca", registry.state.trust_domain, now()).authority
    cache, board = Cache(), StatusBoard(now)
    compiler = Compiler(registry, cache, board)
    compiling = asyncio.create_task(compiler.run())
    await compiler.caught_up()
    assert not compiler.problems, compiler.problems
    letting_in = functools.partial(admit, identity_of=registry.identity_of)
    server = discovery_server(DiscoveryService(cache, board, letting_in))
    xds = listen(server, Address("127.0.0.1", 0), server_credentials(lambda: authority, now))
    await server.start()
    (asked.folder / "roots.pem").write_text(authority.bundle_pem)
    for lease in registry.leases.values():
        prepare(asked.folder / lease.workload.name, lease, authority)
        started = bootstrap(instance_of(lease, registry.topology), Address("127.0.0.1", xds))
        (asked.folder / lease.workload.name / "bootstrap.json").write_text(MessageToJson(started))
    leases = {lease.workload.name: lease for lease in registry.leases.values()}
    say(
        outbound=leases["web"].addresses.upstreams["orders"].port,
        inbound=leases["orders"].addresses.inbound[PORT].port,
        ids={name: lease.identity.uri for name, lease in leases.items()},
    )
    await obey({}, compiler)
    await server.stop(None)
    compiling.cancel()
    await registry.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--methods", type=int, required=True)
    parser.add_argument("--retried", type=int, required=True)
    parser.add_argument("--application", type=int, required=True, help="the port of the service `orders`")
    return parser.parse_args()


async def opened(folder: Path, mesh: Iterable[str], application: int) -> Registry:
    """One healthy instance of each workload."""
    store = await Store.open(folder / "state.db")
    written = Registry(store, (await store.load()).state, now=now, uptime=uptime)
    outcome = await written.apply(call(*mesh))
    assert not outcome.problems, outcome.problems
    leases = [a_lease(one, written.state.trust_domain, application) for one in written.workloads]
    return Registry(store, written.state, leases, now=now, uptime=uptime, term=timedelta(hours=1))


def a_lease(one: Desired, trust_domain: str, application: int) -> Lease:
    workload = one.workload
    addresses = Addresses(
        inbound={PORT: loopback(free_port())},
        app={PORT: loopback(application)},
        upstreams={upstream.key: loopback(free_port()) for upstream in workload.upstreams},
        outbound=loopback(free_port()),
        admin=ADMIN,
    )
    return Lease(
        id=InstanceId(workload.namespace, workload.name, f"{workload.name}-0"),
        generation=one.generation,
        workload=workload,
        document=one.document,
        identity=Identity(trust_domain, workload.namespace, workload.service_account),
        addresses=addresses,
        report=HEALTHY,
        was_healthy=True,
    )


def loopback(port: int) -> Address:
    return Address("127.0.0.1", port)


def prepare(folder: Path, lease: Lease, authority: CertificateAuthority) -> None:
    """The certificate, as Envoy reads it, and for others."""
    key = new_key()
    leaf = authority.issue(key.csr, lease.identity, (), now(), timedelta(hours=1))
    write_secrets(folder / "sds", chain_pem=leaf.chain_pem, key_pem=key.pem, bundle_pem=authority.bundle_pem)
    for name, text in (("leaf.pem", leaf.chain_pem), ("key.pem", key.pem)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text)


if __name__ == "__main__":
    asyncio.run(main())
