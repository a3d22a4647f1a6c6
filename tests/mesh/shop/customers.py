"""Customers of the bookstore at ORDERS, who order until SIGTERM and then wait for what they have begun.

Keeps in the file that it is given how many orders were placed, and what went wrong with others.
"""

import asyncio
import json
import os
import signal
import sys
import uuid
from pathlib import Path

import grpc
from bookstore.orders.v1 import orders_pb2, orders_pb2_grpc

CUSTOMERS = 8
SECONDS = 20.0


async def main(kept: Path) -> None:
    placed, failures = 0, []
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)

    async def customer(stub: orders_pb2_grpc.OrderServiceStub) -> None:
        nonlocal placed
        while not stopping.is_set():
            try:
                await stub.PlaceOrder(an_order(), timeout=SECONDS)
                placed += 1
            except grpc.aio.AioRpcError as error:
                failures.append(f"{error.code().name}: {error.details()}")
                await asyncio.sleep(0.05)
            written = kept.with_suffix(".new")
            written.write_text(json.dumps({"placed": placed, "failures": failures}))
            written.replace(kept)

    async with grpc.aio.insecure_channel(os.environ["ORDERS"]) as channel, asyncio.TaskGroup() as tasks:
        for _ in range(CUSTOMERS):
            tasks.create_task(customer(orders_pb2_grpc.OrderServiceStub(channel)))  # type: ignore[no-untyped-call]


def an_order() -> orders_pb2.PlaceOrderRequest:
    return orders_pb2.PlaceOrderRequest(
        idempotency_key=str(uuid.uuid4()), customer_id="a-test", items=[orders_pb2.Item(book_id=42, quantity=1)]
    )


asyncio.run(main(Path(sys.argv[1])))
