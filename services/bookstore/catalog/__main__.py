"""`python -m catalog`: serves the catalog at HOST:PORT; `kit.settings` lists what else the environment may say."""

import asyncio
from functools import partial

from bookstore.catalog.v1 import catalog_pb2, catalog_pb2_grpc

from catalog.seed import seed
from catalog.service import CatalogService
from catalog.store import TABLES, Books
from kit import Database, Settings, run, serve


async def main(settings: Settings, stopping: asyncio.Event) -> None:
    async with Database.open(settings.data_dir / "catalog.db", TABLES, seed) as database:
        add = partial(catalog_pb2_grpc.add_CatalogServiceServicer_to_server, CatalogService(Books(database)))
        await serve(catalog_pb2.DESCRIPTOR, add, settings, stopping)


run("catalog", main)
