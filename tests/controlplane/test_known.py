"""What is known of methods in the registry: over restarts, beside the control plane, and for who follows it."""

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.model.descriptors import digest_of
from mesh.model.names import InstanceId
from mesh.registry.known import Offer, Origin, Source
from mesh.registry.registry import Registry
from mesh.registry.store import known_at
from tests.controlplane.test_schema import a_set
from tests.unit.registry.builders import NOON, call, workload

ORDERS = InstanceId("shop", "orders", "orders-0")


async def observed(registry: Registry, content: bytes, minutes: int = 0) -> None:
    offer = Offer(Source.REFLECTION, digest_of(content), len(content), NOON + timedelta(minutes=minutes))
    await registry.observe_schema(ORDERS, offer, content)


def names(registry: Registry) -> list[str]:
    schema = registry.topology.schema("shop", "orders")
    return [method.name for method in schema.methods] if schema else []


async def test_a_restart_finds_what_was_known(opened):
    registry = await opened()
    await registry.apply(call(workload("orders")))
    await observed(registry, a_set("Get"))
    await registry.push_schema(Origin("shop", service="orders", version="v1"), a_set("Put"))
    topology = registry.topology
    await registry.close()

    registry = await opened()
    assert registry.topology == topology
    assert names(registry) == ["Put"]
    await registry.forget_schema(Origin("shop", service="orders", version="v1"))
    assert names(registry) == ["Get"]


async def test_what_is_known_can_be_read_beside_the_control_plane(opened, path: Path):
    assert known_at(path) == {}
    registry = await opened()
    assert known_at(path) == {}
    await registry.apply(call(workload("orders")))
    await observed(registry, a_set("Get"))

    assert known_at(path) == registry.state.known

    await registry.close()
    with sqlite3.connect(path) as database:
        database.execute("drop table known")
    assert known_at(path) == {}


async def test_descriptors_that_nobody_refers_to_are_not_kept(opened, path: Path):
    registry = await opened()
    await registry.apply(call(workload("orders")))
    for minutes in range(5):
        await observed(registry, a_set("Get", *(f"Put{n}" for n in range(minutes))), minutes)

    with sqlite3.connect(path) as database:
        digests = [digest for (digest,) in database.execute("select digest from descriptors")]
    assert digests == [known.digest for known in registry.state.known.values()]


async def test_a_changed_schema_wakes_who_follows_the_registry(registry):
    await registry.apply(call(workload("orders")))
    seen = registry.changed.number

    await observed(registry, a_set("Get"))

    assert registry.changed.number > seen
    assert names(registry) == ["Get"]


async def test_a_state_from_before_there_were_schemas_is_opened(opened, path: Path):
    registry = await opened()
    await registry.apply(call(workload("orders")))
    await registry.close()
    with sqlite3.connect(path) as database:
        database.execute("drop table known")
        database.execute("drop table descriptors")

    registry = await opened()
    await observed(registry, a_set("Get"))
    assert names(registry) == ["Get"]


async def test_descriptors_that_are_not_there_have_to_be_sent(registry):
    await registry.apply(call(workload("orders")))
    offer = Offer(Source.REFLECTION, digest_of(a_set("Get")), 1, NOON)

    with pytest.raises(Exception, match="its descriptors are not known"):
        await registry.observe_schema(ORDERS, offer, None)
