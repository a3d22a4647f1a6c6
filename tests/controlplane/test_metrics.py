"""What the control plane tells Prometheus, and that it is what docs/metrics.md says."""

import asyncio
import re
import sys
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import parser
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser

from mesh.snapshot.types import CLUSTER
from mesh.telemetry.metrics import REFUSALS
from mesh.xds import server
from tests.controlplane.conftest import SECONDS, Plane
from tests.controlplane.proxy import credentials, proxy
from tests.controlplane.test_grpc_clients import attached, told
from tests.mesh.running import ROOT
from tests.scrape import Values, added, read, values
from tests.unit.registry.builders import policy, workload

ORDERS = "shop/orders/orders-0"
TARGET = "shop/inventory/50051"


async def numbers(plane: Plane, until: Callable[[Values], bool] = lambda _: True) -> Values:
    """All numbers, as soon as `until` holds for them."""
    assert plane.settings.metrics
    async with asyncio.timeout(SECONDS):
        while True:
            found = values(await asyncio.to_thread(read, plane.settings.metrics))
            if until(found):
                return found
            await asyncio.sleep(0.01)


@pytest.fixture
async def shop(plane: Plane) -> Plane:
    await plane.client.start_with(workload("orders", "upstreams: [{service: inventory}]"), workload("inventory"))
    return plane


def table() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Name, type and labels of each metric that docs/metrics.md lists."""
    for line in (ROOT / "docs" / "metrics.md").read_text().splitlines():
        if re.match(r"\| `\w+` \|", line):
            _, name, kind, labels, _ = line.split("|", 4)
            yield name.strip(" `"), kind.strip(), frozenset(re.findall(r"`(\w+)`", labels))


def listed(families: Iterator[Metric]) -> Iterator[tuple[str, str, frozenset[str]]]:
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield name, family.type, frozenset(label for sample in family.samples for label in sample.labels) - {"le"}


@pytest.mark.parametrize(
    ("accept", "parse"),
    [
        pytest.param("text/plain", parser.text_string_to_metric_families, id="text"),
        pytest.param(
            "application/openmetrics-text", openmetrics_parser.text_string_to_metric_families, id="openmetrics"
        ),
    ],
)
async def test_the_page_lists_what_there_is(shop: Plane, accept: str, parse: Callable[[str], Iterator[Metric]]) -> None:
    there = sorted(listed(parse(await asyncio.to_thread(read, shop.settings.metrics, accept))))
    page = sorted(row for row in table() if sys.platform == "linux" or not row[0].startswith("process_"))

    assert [(name, kind, sorted(labels)) for name, kind, labels in there] == [
        (name, kind, sorted(labels)) for name, kind, labels in page
    ]


async def test_the_page_says_the_values_of_labels(shop: Plane) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    found = await numbers(shop)

    labelled = {key[1] for key in found if len(key) == 2 and re.match(r"proa_(?!.*_(bucket|info)$)", key[0])}
    assert len(labelled) > 15
    assert [value for value in labelled if f"`{value}`" not in page] == []
    assert {reason for reason, _ in server.REFUSALS.values()} == set(REFUSALS)


async def test_a_change_is_timed_until_the_last_answer(shop: Plane) -> None:
    trusted = await credentials(shop.client, "orders")
    async with shop.client.attached("orders-0"), proxy(shop.settings.xds, ORDERS, trusted, TARGET) as orders:
        await orders.until(TARGET, "inbound/50051")
        before = await numbers(shop, synced)
        orders.acknowledges, had = False, orders.responses
        # Two changes, one while the other is not answered for.
        await shop.client.apply(workload("inventory", "serviceAccount: clerk"))
        pending = await numbers(shop, lambda now: now["proa_change_pending_seconds",] > 0.3)
        await shop.client.apply(policy("retry", "inventory"))

        assert pending["proa_xds_queued_streams",] == pending["proa_proxies", "pending"] == 1
        assert pending["proa_change_to_ack_seconds_count",] == before["proa_change_to_ack_seconds_count",]
        assert orders.responses > had
        await orders.acknowledge()
        after = await numbers(shop, synced)

    assert added(after, before, "proa_change_to_ack_seconds_count") == 1
    assert added(after, before, "proa_change_to_ack_seconds_sum") > 0.3
    assert added(after, before, "proa_revision") == 2
    assert added(after, before, "proa_compile_seconds_count") >= 2
    assert added(after, before, "proa_xds_responses_total", "Cluster") == 1
    assert added(after, before, "proa_xds_acks_total", "Cluster") == 1
    assert added(after, before, "proa_xds_sent_bytes_total", "Cluster") > 100


def synced(now: Values) -> bool:
    return now["proa_proxies", "synced"] == 1 and now["proa_change_pending_seconds",] == 0


async def test_a_change_is_timed_until_a_grpc_client_has_answered_for_it(shop: Plane) -> None:
    async with told(shop, "inventory") as client:
        await client.subscribe(CLUSTER, TARGET)
        await client.until(TARGET)
        before = await numbers(shop, synced)
        client.acknowledges = False
        await shop.client.apply(workload("inventory", "serviceAccount: clerk"))
        pending = await numbers(shop, lambda now: now["proa_change_pending_seconds",] > 0.2)
        await client.acknowledge()
        after = await numbers(shop, synced)

    assert pending["proa_proxies", "pending"] == 1
    assert added(after, before, "proa_change_to_ack_seconds_count") == 1
    assert added(after, before, "proa_change_to_ack_seconds_sum") > 0.2


async def test_a_change_for_which_nothing_is_sent_is_not_timed(shop: Plane) -> None:
    trusted = await credentials(shop.client, "orders")
    async with shop.client.attached("orders-0"), proxy(shop.settings.xds, ORDERS, trusted, TARGET) as orders:
        await orders.until(TARGET, "inbound/50051")
        before = await numbers(shop, synced)

        await shop.client.apply(workload("elsewhere"))
        passes = before["proa_compile_seconds_count",]
        after = await numbers(shop, lambda now: synced(now) and now["proa_compile_seconds_count",] > passes)

    assert added(after, before, "proa_revision") == 1
    assert added(after, before, "proa_change_to_ack_seconds_count") == 0


async def test_a_refusal_and_a_stranger_are_counted(shop: Plane) -> None:
    trusted = await credentials(shop.client, "orders")
    async with shop.client.attached("orders-0"), shop.client.attached("inventory-0", base_port=21_000):
        async with proxy(shop.settings.xds, "shop/inventory/inventory-0", trusted, asks=[]) as impostor:
            await impostor.subscribe("", node="shop/inventory/inventory-0")
            await numbers(shop, lambda now: now["proa_xds_refused_streams_total", "identity"] == 1)
        async with proxy(shop.settings.xds, ORDERS, trusted, TARGET) as orders:
            await orders.until("inbound/50051", TARGET)
            before = await numbers(shop, synced)
            orders.refuses["type.googleapis.com/envoy.config.cluster.v3.Cluster", TARGET] = "no such thing"
            await shop.client.apply(workload("inventory", "serviceAccount: clerk"))
            found = await numbers(shop, lambda now: now["proa_proxies", "nacked"] == 1)
            await numbers(shop, lambda now: added(now, before, "proa_change_to_ack_seconds_count") == 1)
            answered = await numbers(shop, lambda now: now["proa_change_pending_seconds",] == 0)

    assert answered["proa_proxies", "nacked"] == 1, "a refusal is an answer"
    assert found["proa_xds_nacks_total", "Cluster"] >= 1
    assert found["proa_xds_nacks_total", "Listener"] == 0
    assert found["proa_xds_streams",] == 1
    await numbers(shop, lambda now: now["proa_xds_streams",] == 0)


async def test_leases_are_counted_by_their_state(shop: Plane) -> None:
    def leases(now: Values) -> dict[str, float]:
        return {key[1]: count for key, count in now.items() if key[0] == "proa_leases" and count}

    async with shop.client.attached("orders-0") as agent:
        await numbers(shop, lambda now: leases(now) == {"unhealthy": 1})
        await agent.report()
        await numbers(shop, lambda now: leases(now) == {"healthy": 1})
    await numbers(shop, lambda now: leases(now) == {"detached": 1})
    async with shop.client.attached("orders-0") as agent:
        await agent.report()
        found = await numbers(shop, lambda now: leases(now) == {"healthy": 1})
        assert found["proa_leases_ended_total",] == 0
        await agent.drain()
        await agent.drained()
        await numbers(shop, lambda now: leases(now) == {"draining": 1})
    await numbers(shop, lambda now: leases(now) == {} and now["proa_leases_ended_total",] == 1)


async def test_a_grpc_client_that_has_joined_is_nothing_to_be_alarmed_about(shop: Plane) -> None:
    """It has no health, and no stream until a program opens a channel."""
    before = await numbers(shop)
    async with attached(shop.client):
        found = await numbers(shop, lambda now: now["proa_leases", "client"] == 1)

    assert (found["proa_leases", "unhealthy"], found["proa_proxies", "disconnected"]) == (0, 0)
    assert before["proa_leases", "client"] == 0


async def test_problems_are_counted(shop: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no address")

    monkeypatch.setattr("mesh.controlplane.compiler.instance_resources", broken)
    async with shop.client.attached("orders-0"):
        await numbers(shop, lambda now: now["proa_compile_problems",] == 1)
