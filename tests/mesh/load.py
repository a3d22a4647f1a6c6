"""Calls that go on while something happens to the mesh."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from bookstore.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from bookstore.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from bookstore.orders.v1 import orders_pb2, orders_pb2_grpc

from tests.mesh.running import patience

Call = Callable[[], Awaitable[Any]]

OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
DEADLINE = 10.0
WORKERS = 4
PAUSE = 0.03
"""Seconds between two calls of a worker. With less, calls take the whole machine from what is to be seen under them."""


@dataclass
class Load:
    """What became of the calls so far."""

    calls: int = 0
    failures: list[str] = field(default_factory=list)

    async def went_on(self, more: int = 50, within: float = 20.0) -> None:
        """Returns after so many more calls."""
        goal = self.calls + more
        async with asyncio.timeout(within * patience()):
            while self.calls < goal:  # noqa: ASYNC110 # nothing tells how many calls there have been
                await asyncio.sleep(0.01)


@asynccontextmanager
async def load(*calls: Call, pause: float = PAUSE) -> AsyncIterator[Load]:
    """Makes the calls again and again from several workers, until the block ends."""
    seen = Load()
    ended = asyncio.Event()

    async def worker(call: Call) -> None:
        while not ended.is_set():
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                seen.failures.append(f"{error.code().name}: {error.details()}")
                await asyncio.sleep(0.05)
            seen.calls += 1
            await asyncio.sleep(pause)

    async with asyncio.TaskGroup() as tasks:
        for call in calls:
            for _ in range(WORKERS):
                tasks.create_task(worker(call))
        await seen.went_on(20)
        yield seen
        await seen.went_on(20)
        ended.set()


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        yield channel


def get_book(channel: grpc.aio.Channel) -> Call:
    stub: Any = catalog_pb2_grpc.CatalogServiceStub(channel)
    return lambda: stub.GetBook(catalog_pb2.GetBookRequest(book_id=42), timeout=DEADLINE)


def get_stock(channel: grpc.aio.Channel) -> Call:
    stub: Any = inventory_pb2_grpc.InventoryServiceStub(channel)
    return lambda: stub.GetStock(inventory_pb2.GetStockRequest(book_id=42), timeout=DEADLINE)


def add_stock(channel: grpc.aio.Channel, quantity: int = 100_000) -> Awaitable[Any]:
    stub: Any = inventory_pb2_grpc.InventoryServiceStub(channel)
    added: Awaitable[Any] = stub.AddStock(
        inventory_pb2.AddStockRequest(book_id=42, quantity=quantity), timeout=DEADLINE
    )
    return added


def place_order(channel: grpc.aio.Channel, **options: Any) -> Call:
    stub: Any = orders_pb2_grpc.OrderServiceStub(channel)

    def call() -> Awaitable[Any]:
        request = orders_pb2.PlaceOrderRequest(
            idempotency_key=str(uuid.uuid4()),
            customer_id="a-test",
            items=[orders_pb2.Item(book_id=42, quantity=1)],
        )
        placed: Awaitable[Any] = stub.PlaceOrder(request, timeout=DEADLINE, **options)
        return placed

    return call


async def outcomes(call: Call, times: int) -> list[str]:
    """The status of each of so many calls, one after the other."""
    found = []
    for _ in range(times):
        try:
            await call()
            found.append("OK")
        except grpc.aio.AioRpcError as error:
            found.append(error.code().name)
    return found
