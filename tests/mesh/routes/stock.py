"""A gRPC service without protos: `Who` says which version it is, `Watch` says so ten times a second. No reflection."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc

NAME = os.environ["NAME"].encode()


class Stock(grpc.GenericRpcHandler):
    def service(self, details: Any) -> Any:
        if details.method == "/shop.Stock/Watch":
            return grpc.unary_stream_rpc_method_handler(watch)
        return grpc.unary_unary_rpc_method_handler(who) if details.method == "/shop.Stock/Who" else None


async def who(request: bytes, context: Any) -> bytes:
    return NAME


async def watch(request: bytes, context: Any) -> AsyncIterator[bytes]:
    while True:
        yield NAME
        await asyncio.sleep(0.1)


async def serve() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([Stock()])
    server.add_insecure_port(f"{os.environ['HOST']}:{os.environ['PORT']}")
    await server.start()
    await server.wait_for_termination()


asyncio.run(serve())
