"""What a change costs: counted, not timed."""

import asyncio
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mesh.controlplane import compiler, endpoints
from mesh.controlplane.compiler import SETTLE
from mesh.model.documents import Key
from mesh.model.names import InstanceId
from mesh.model.workload import NOWHERE, Locality
from mesh.registry.leases import NO_ADDRESSES, Report
from mesh.registry.registry import Registry
from mesh.snapshot import seal, views
from mesh.snapshot.types import CLUSTER, ENDPOINT, ROUTE
from mesh.translate import resources
from tests.builders import a_policy, a_workload
from tests.controlplane.compiled import Mesh
from tests.unit.registry.builders import call

NAMESPACES = [f"n{n}" for n in range(10)]
SERVICES = [(namespace, f"s{n}") for namespace in NAMESPACES for n in range(10)]
SICK = Report(healthy=False, agent_pid=7)


def upstreams(n: int, count: int = 10) -> str:
    """The next ten services of the mesh."""
    next_ten = [SERVICES[(n + k) % len(SERVICES)] for k in range(count)]
    return "[" + ", ".join(f"{{service: {service}.{namespace}}}" for namespace, service in next_ten) + "]"


def never_retried(service: str, namespace: str) -> str:
    spec = f"{{targetRefs: [{{kind: Service, name: {service}}}], retry: {{disabled: true}}}}"
    return a_policy(f"never-{service}", spec, namespace)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each function was called that translates, joins or serialises."""
    counts: Counter[str] = Counter()

    def counted(room: Any, name: str) -> None:
        function: Callable[..., Any] = getattr(room, name)

        def call(*arguments: Any) -> Any:
            counts[name] += 1
            return function(*arguments)

        monkeypatch.setattr(room, name, call)

    for name in ("cluster", "host_routes", "upstream_routes", "inbound_routes"):
        counted(resources, name)
    counted(compiler, "instance_resources")
    counted(views, "joined")
    counted(seal, "resource")
    counted(endpoints, "load_assignment")
    counted(endpoints, "resource")
    return counts


@pytest.fixture
async def mesh(registry: Registry, made: Counter[str]) -> Mesh:
    """100 services, and 100 shapes: each calls ten of them, no two the same ten."""
    mesh = Mesh(registry)
    spec = "port: 50051, upstreams: {}"
    texts = [a_workload(name, spec.format(upstreams(n)), namespace) for n, (namespace, name) in enumerate(SERVICES)]
    await registry.apply(call(*texts))
    await mesh.attach_all()
    mesh.compiler.compile()
    assert mesh.compiler.problems == {}
    made.clear()
    return mesh


async def test_a_policy_change_makes_only_what_names_it(mesh: Mesh, made: Counter[str]) -> None:
    """The service is called from ten scopes, in two namespaces."""
    before = {instance: mesh.state(instance) for instance in mesh.registry.leases}
    await mesh.registry.apply(call(never_retried("s5", "n0")))
    mesh.compiler.compile()

    assert made == {"host_routes": 2, "upstream_routes": 2, "resource": 4, "joined": 10}
    after = {instance: mesh.state(instance) for instance in mesh.registry.leases}
    changed = [instance for instance in before if after[instance][ROUTE] is not before[instance][ROUTE]]
    assert len(changed) == 10
    for instance in before:
        assert after[instance][CLUSTER] is before[instance][CLUSTER]
        then, now = before[instance][ROUTE], after[instance][ROUTE]
        news = {name for name in now if now[name] is not then[name]}
        assert news == ({"outbound", "upstream/n0/s5/50051"} if instance in changed else set())


async def test_a_new_account_makes_one_cluster(mesh: Mesh, made: Counter[str]) -> None:
    spec = f"port: 50051, serviceAccount: clerk, upstreams: {upstreams(5)}"
    await mesh.registry.apply(call(a_workload("s5", spec, "n0")))
    mesh.compiler.compile()

    assert made == {"cluster": 1, "resource": 1}


async def test_what_means_the_same_makes_nothing(mesh: Mesh, made: Counter[str]) -> None:
    await mesh.registry.scale("n0", "s5", 3)
    await mesh.registry.apply(call(never_retried("s99", "n0")))
    mesh.compiler.compile()

    assert made == {}


async def test_shapes_of_equal_scope_share_one_configuration(registry: Registry, made: Counter[str]) -> None:
    """100 services of one namespace, none of which declares whom it calls."""
    mesh = Mesh(registry)
    await registry.apply(call(*(a_workload(f"s{n}", f"port: 50051, serviceAccount: a{n}") for n in range(100))))
    await mesh.attach_all()
    mesh.compiler.compile()
    before = made.copy()
    assert before["joined"] == 1

    await registry.apply(call(never_retried("s5", "shop")))
    mesh.compiler.compile()

    assert made - before == {"host_routes": 1, "upstream_routes": 1, "resource": 2, "joined": 1}
    assert len({id(mesh.state(instance)[ROUTE]["outbound"]) for instance in registry.leases}) == 1
    assert len({id(mesh.state(instance)[CLUSTER]["shop/s7/50051"]) for instance in registry.leases}) == 1


async def test_one_changed_endpoint_makes_one_assignment_per_locality(mesh: Mesh, made: Counter[str]) -> None:
    """Of each of its targets: all versions of the service, and its own."""
    zones = [Locality("r", "a"), Locality("r", "b")]
    for zone in zones:
        spec = f"port: 50051, locality: {{region: {zone.region}, zone: {zone.zone}}}"
        await mesh.registry.apply(call(a_workload(f"in-{zone.zone}", spec, "n0")))
        await mesh.attach(InstanceId("n0", f"in-{zone.zone}", f"in-{zone.zone}-0"))
        mesh.compiler.compile()
    made.clear()
    sick = InstanceId("n3", "s3", "s3-0")
    before = {near: mesh.state(sick, near)[ENDPOINT] for near in (NOWHERE, *zones)}
    await mesh.registry.report(sick, SICK)
    mesh.compiler.compile()

    assert made == {"load_assignment": 6, "resource": 6}
    for near, then in before.items():
        now = mesh.state(sick, near)[ENDPOINT]
        assert {name for name in now if now[name] is not then[name]} == {"n3/s3/50051", "n3/s3/50051/v1"}


async def test_a_new_locality_makes_its_own_assignments_and_no_others(mesh: Mesh, made: Counter[str]) -> None:
    await mesh.registry.apply(call(a_workload("far", "locality: {region: r, zone: z}", "n0")))
    await mesh.attach(InstanceId("n0", "far", "far-0"))
    mesh.compiler.compile()

    assert made["load_assignment"] == len(mesh.state(InstanceId("n0", "far", "far-0"))[ENDPOINT])


async def test_an_endpoint_change_looks_at_no_other_service_or_instance(registry: Registry) -> None:
    mesh = Mesh(registry)
    counts = []
    await registry.apply(call(a_workload("s"), a_workload("t")))
    for size in (5, 10, 60):
        await registry.apply(call(*(a_workload(f"t{n}") for n in range(size))))
        for n in range(size):
            await mesh.attach(InstanceId("shop", "t", f"t-{n}"), 30_000 + 4 * n)
        await mesh.attach(InstanceId("shop", "s", "s-0"))
        mesh.compiler.compile()
        await registry.scale("shop", "s", size)  # writes what means the same
        mesh.compiler.compile()
        await registry.report(InstanceId("shop", "s", "s-0"), SICK)
        with calls() as counted:
            mesh.compiler.compile()
        counts.append(counted)

    assert counts[1] == counts[2]


@contextmanager
def calls() -> Iterator[Counter[str]]:
    """Calls of functions written in Python, by name."""
    found: Counter[str] = Counter()
    sys.setprofile(lambda frame, event, _: found.update([frame.f_code.co_qualname]) if event == "call" else None)
    try:
        yield found
    finally:
        sys.setprofile(None)


async def test_nothing_is_kept_of_what_has_gone(registry: Registry, clock: Any) -> None:
    """Names, zones and instances that come and go."""
    mesh = Mesh(registry)
    await registry.apply(call(a_workload("web")))
    await mesh.attach(InstanceId("shop", "web", "web-0"))
    sizes = []
    for n in range(6):
        name, spec = f"s{n}", f"port: 50051, locality: {{region: r, zone: z{n}}}"
        await registry.apply(call(a_workload(name, spec), never_retried(name, "shop")))
        await mesh.attach(InstanceId("shop", name, f"{name}-0"))
        mesh.compiler.compile()
        sizes.append(kept(mesh))
        registry.detach(InstanceId("shop", name, f"{name}-0"))
        clock.advance(10)
        await registry.expire()
        await registry.delete([Key("Workload", "shop", name)])
        mesh.compiler.compile()

    assert sizes[1:] == sizes[:-1]


async def test_nothing_is_kept_of_clients_that_have_gone(registry: Registry, clock: Any) -> None:
    mesh = Mesh(registry)
    await registry.apply(call(a_workload("s")))
    sizes = []
    for n in range(4):
        client = InstanceId.of_client("shop", f"job{n}", "1")
        await registry.attach(client, "", NO_ADDRESSES)
        mesh.compiler.compile()
        sizes.append(kept(mesh))
        registry.detach(client)
        clock.advance(10)
        await registry.expire()
        mesh.compiler.compile()

    assert sizes[1:] == sizes[:-1]


def kept(mesh: Mesh) -> dict[str, int]:
    gc.collect()
    seal_view, index = mesh.compiler._seal_view, mesh.compiler._endpoints
    sizes = {name: len(one) for name, one in (vars(seal_view) | vars(index)).items()}
    own = {name: len(one) for name, one in vars(mesh.compiler).items() if isinstance(one, dict | set)}
    return {**sizes, **own, "cache": len(mesh.cache._endpoints), "revision": len(mesh.compiler._revision._parts)}


async def test_a_thousand_endpoint_changes_in_a_second_give_at_most_twenty_passes(mesh: Mesh) -> None:
    assert 1 + timedelta(seconds=1) / SETTLE <= 20
    passes = mesh.compiler._passes
    running = asyncio.create_task(mesh.compiler.run())
    await mesh.compiler.caught_up()
    first, began = passes.number, time.monotonic()
    for n in range(1000):
        await mesh.registry.report(InstanceId("n3", "s3", "s3-0"), replace(SICK, healthy=bool(n % 2)))
    took = timedelta(seconds=time.monotonic() - began)
    await mesh.compiler.caught_up()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    assert passes.number - first <= took / SETTLE + 2
    assert mesh.endpoints("n3/s3/50051") == [(20_000, 1)]
