"""The registry on its store: what is kept, what is all or nothing, and when instances are forgotten."""

import asyncio
from datetime import timedelta

import pytest

from mesh.errors import NotFoundError, StateError
from mesh.model.documents import Key
from mesh.model.names import InstanceId, Target
from mesh.registry.leases import Report, endpoints_of
from mesh.registry.registry import Registry
from mesh.registry.store import Store
from tests.unit.registry.builders import addresses, call, policy, workload

ORDERS_0 = InstanceId("shop", "orders", "orders-0")
HEALTHY = Report(healthy=True, agent_pid=7, pid=8, exposed=("0.0.0.0:1",))


def generation(registry: Registry) -> str:
    return registry.workloads[0].generation


async def healthy_instance(registry: Registry, instance: InstanceId = ORDERS_0) -> None:
    await registry.replace_file_set(call(workload("orders")))
    await registry.attach(instance, generation(registry), addresses())
    await registry.report(instance, HEALTHY)


def endpoint_count(registry: Registry) -> int:
    return len(endpoints_of(registry.leases.values()).get(Target("shop", "orders", 50051), ()))


async def test_a_restart_keeps_everything(registry, opened):
    await healthy_instance(registry)
    await registry.apply(call(policy("retry", "orders"), path="retry.yaml"))
    await registry.scale("shop", "orders", 3)
    await registry.restart("shop", "orders")
    await registry.close()

    again = await opened()

    assert again.state == registry.state
    assert again.leases == registry.leases
    assert again.workloads == registry.workloads
    assert again.documents == registry.documents
    assert endpoint_count(again) == 1


async def test_after_a_restart_each_lease_has_one_full_term(registry, opened, clock):
    await healthy_instance(registry)
    clock.advance(1000)
    again = await opened()

    assert not again.attached(ORDERS_0)
    clock.advance(9.9)
    assert await again.expire() == ()
    clock.advance(0.1)
    assert await again.expire() == (ORDERS_0,)
    assert (await opened()).leases == {}


async def test_an_attached_instance_has_no_term(registry, clock):
    await healthy_instance(registry)
    clock.advance(1000)

    assert registry.attached(ORDERS_0)
    assert registry.next_end() is None
    assert await registry.expire() == ()


async def test_a_broken_stream_starts_the_term_and_a_new_one_ends_it(registry, clock):
    await healthy_instance(registry)
    registry.detach(ORDERS_0)
    assert registry.next_end() == timedelta(seconds=10)
    clock.advance(9)

    await registry.attach(ORDERS_0, generation(registry), addresses())
    clock.advance(2)

    assert await registry.expire() == ()
    assert endpoint_count(registry) == 1


async def test_after_its_term_an_instance_is_forgotten_with_its_endpoint(registry, clock):
    await healthy_instance(registry)
    registry.detach(ORDERS_0)
    assert endpoint_count(registry) == 1
    clock.advance(10)

    assert await registry.expire() == (ORDERS_0,)

    assert endpoint_count(registry) == 0
    assert registry.identity_of(ORDERS_0.node_id) is None


async def test_a_drained_instance_is_forgotten_as_soon_as_its_stream_ends(registry):
    await healthy_instance(registry)
    await registry.drain(ORDERS_0)
    assert endpoint_count(registry) == 0

    registry.detach(ORDERS_0, at_once=True)

    assert await registry.expire() == (ORDERS_0,)


async def test_a_draining_instance_is_no_endpoint_after_a_restart_either(registry, opened):
    await healthy_instance(registry)
    await registry.drain(ORDERS_0)

    assert endpoint_count(await opened()) == 0


async def test_the_identity_is_that_of_the_document_when_the_instance_was_started(registry):
    await healthy_instance(registry)
    await registry.apply(call(workload("orders", "serviceAccount: other")))

    assert registry.identity_of("shop/orders/orders-0") == "spiffe://proa.local/ns/shop/sa/orders"
    assert registry.identity_of("shop/orders/orders-9") is None
    assert registry.identity_of("no node id") is None


async def test_an_instance_goes_on_as_it_was_when_its_workload_changes_or_goes(registry):
    await healthy_instance(registry)
    before = registry.leases[ORDERS_0]
    registry.detach(ORDERS_0)
    await registry.replace_file_set(call(workload("catalog")))

    assert await registry.attach(ORDERS_0, before.generation, addresses()) == before
    assert registry.attached(ORDERS_0)


async def test_an_instance_that_comes_back_with_another_generation_is_a_new_one(registry):
    await healthy_instance(registry)
    await registry.replace_file_set(call(workload("orders", "version: v2")))

    lease = await registry.attach(ORDERS_0, generation(registry), addresses())

    assert (lease.workload.version, lease.report, lease.was_healthy) == ("v2", Report(), False)


async def test_an_instance_of_no_workload_cannot_attach(registry):
    with pytest.raises(NotFoundError):
        await registry.attach(ORDERS_0, "g", addresses())


async def test_reports_about_what_was_forgotten_are_dropped(registry):
    await registry.report(ORDERS_0, HEALTHY)
    await registry.drain(ORDERS_0)
    registry.detach(ORDERS_0)

    assert registry.leases == {}
    assert registry.next_end() is None


async def test_a_refused_call_leaves_no_trace(registry, opened):
    await registry.apply(call(workload("orders")))
    before = registry.changed.number

    outcome = await registry.apply(call(workload("inventory"), policy("retry", "nobody")))

    assert outcome.problems
    assert registry.changed.number == before
    assert (await opened()).state == registry.state


async def test_concurrent_calls_all_count(registry, opened):
    names = [f"w{n}" for n in range(40)]

    outcomes = await asyncio.gather(*(registry.apply(call(workload(name))) for name in names))

    assert sorted(outcome.state.revision for outcome in outcomes) == list(range(1, 41))
    kept = (await opened()).state
    assert kept.revision == 40
    assert sorted(key.name for key in kept.applied) == sorted(names)


async def test_a_call_whose_caller_goes_away_is_finished(registry, opened):
    caller = asyncio.create_task(registry.apply(call(workload("orders"))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await registry.close()

    assert registry.state.revision == 1
    assert (await opened()).state == registry.state


async def test_an_attachment_whose_stream_breaks_while_it_is_written_ends_by_its_term(registry, clock):
    await registry.replace_file_set(call(workload("orders")))
    stream = asyncio.create_task(registry.attach(ORDERS_0, generation(registry), addresses()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    stream.cancel()
    await registry.changed.after(registry.changed.number)

    assert registry.next_end() == timedelta(seconds=10)
    clock.advance(10)
    assert await registry.expire() == (ORDERS_0,)


async def test_a_second_writer_is_found_out_before_it_overwrites_anything(registry, opened):
    other = await opened()
    await other.apply(call(workload("orders")))

    with pytest.raises(StateError, match="not at revision 0 any more"):
        await registry.apply(call(workload("inventory")))

    assert registry.state.revision == 0
    assert [key.name for key in (await opened()).state.applied] == ["orders"]


async def test_a_write_that_fails_changes_nothing(registry, path):
    path.chmod(0o600)
    store: Store = registry._store
    await store.close()
    path.unlink()
    path.mkdir()

    with pytest.raises(StateError, match=r"state\.db: "):
        await registry.apply(call(workload("orders")))

    assert registry.state.revision == 0
    assert Key("Workload", "shop", "orders") not in registry.state.applied


async def test_a_new_start_forgets_the_instances_of_an_earlier_one_and_no_others(registry, opened):
    await healthy_instance(registry)
    again = await opened()
    other = InstanceId("shop", "orders", "orders-1")
    await again.attach(other, generation(again), addresses())

    await again.forget_detached()

    assert list(again.leases) == [other]
    assert again.attached(other)
