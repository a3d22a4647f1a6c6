"""A gRPC client of the bookstore whose only configuration is its bootstrap, which a process reads once.

Each line on stdin is answered by one on stdout. `call NAME` makes one call, and says its status and how long it took;
`reserve NAME` one that the service can be told to fail, and refuses otherwise, as it reserves nothing. `begin NAME`
calls without end from several workers; `count` says how many calls there have been, `end` what has failed.
"""

import asyncio
import json
import sys
import time

import grpc
from bookstore.inventory.v1 import inventory_pb2, inventory_pb2_grpc

WORKERS = 4
PAUSE = 0.03
"""Seconds between two calls of a worker, as of `tests/mesh/load.py`."""
SECONDS = 20.0


class Caller:
    """With certificates from the bootstrap; without a bootstrap that has some, the channel is TLS and fails."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._load: list[asyncio.Task[None]] = []
        self._calls = 0
        self._failures: list[str] = []

    async def answer(self, command: str, name: str) -> object:
        match command:
            case "call" | "reserve":
                began = time.monotonic()
                status = await self._call(name, reserves=command == "reserve")
                return {"status": status, "seconds": time.monotonic() - began}
            case "begin":
                self._load = [asyncio.create_task(self._call_again_and_again(name)) for _ in range(WORKERS)]
            case "end":
                for task in self._load:
                    task.cancel()
        return {"calls": self._calls, "failures": self._failures}

    async def _call_again_and_again(self, name: str) -> None:
        while True:
            status = await self._call(name)
            self._calls += 1
            if status != "OK":
                self._failures.append(status)
                await asyncio.sleep(0.05)
            await asyncio.sleep(PAUSE)

    async def _call(self, name: str, *, reserves: bool = False) -> str:
        if name not in self._channels:
            self._channels[name] = grpc.aio.secure_channel(f"xds:///{name}", grpc.xds_channel_credentials())
        stub = inventory_pb2_grpc.InventoryServiceStub(self._channels[name])  # type: ignore[no-untyped-call]
        try:
            if reserves:
                await stub.Reserve(inventory_pb2.ReserveRequest(), timeout=SECONDS)
            else:
                await stub.GetStock(inventory_pb2.GetStockRequest(book_id=42), timeout=SECONDS)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "OK"


async def main() -> None:
    caller = Caller()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command, _, name = line.strip().partition(" ")
        print(json.dumps(await caller.answer(command, name)), flush=True)


asyncio.run(main())
