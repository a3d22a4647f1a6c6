"""A service made with the kit that does what a test asks. It speaks the catalog's API, so that orders can call it.

GetBook(n) takes n milliseconds; the book's title is what was left of the deadline when the call came, in seconds, or
"none". With UPSTREAM (host:port) it gives the answer of the service there. ListBooks and SearchBooks fail as nobody
foresaw.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import grpc
from bookstore.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from bookstore.type.v1 import money_pb2

from kit import Settings, connect, run, serve
from kit.interceptors import Context

SECRET = "password=hunter2"


class Probe(catalog_pb2_grpc.CatalogServiceServicer):
    def __init__(self, upstream: grpc.aio.Channel | None) -> None:
        self._upstream = None if upstream is None else catalog_pb2_grpc.CatalogServiceStub(upstream)

    async def GetBook(self, request: catalog_pb2.GetBookRequest, context: Context) -> catalog_pb2.GetBookResponse:
        if self._upstream is not None:
            return await self._upstream.GetBook(request)
        remaining = context.time_remaining()
        await asyncio.sleep(request.book_id / 1000)
        price = money_pb2.Money(currency_code="EUR", minor_units=100)
        title = "none" if remaining is None else f"{remaining:.3f}"
        return catalog_pb2.GetBookResponse(book=catalog_pb2.Book(id=request.book_id, title=title, price=price))

    async def ListBooks(self, request: catalog_pb2.ListBooksRequest, context: Context) -> catalog_pb2.ListBooksResponse:
        raise RuntimeError(SECRET)

    async def SearchBooks(
        self, request: catalog_pb2.SearchBooksRequest, context: Context
    ) -> AsyncIterator[catalog_pb2.SearchBooksResponse]:
        yield catalog_pb2.SearchBooksResponse()
        raise RuntimeError(SECRET)


async def main(settings: Settings, stopping: asyncio.Event) -> None:
    upstream = connect(settings.address("UPSTREAM")) if "UPSTREAM" in settings.environment else None
    add = partial(catalog_pb2_grpc.add_CatalogServiceServicer_to_server, Probe(upstream))
    await serve(catalog_pb2.DESCRIPTOR, add, settings, stopping)
    if upstream is not None:
        await upstream.close()


run("probe", main)
