"""`python -m inventory`: serves the inventory at HOST:PORT; `kit.settings` lists what else the environment may say.

FAIL_EVERY=3 makes every third Reserve of this process fail: see `inventory.faults`.
"""

import asyncio
from functools import partial

from bookstore.inventory.v1 import inventory_pb2, inventory_pb2_grpc

from inventory.faults import FailEvery
from inventory.seed import seed
from inventory.service import InventoryService
from inventory.store import TABLES, Copies
from kit import Database, Settings, run, serve


async def main(settings: Settings, stopping: asyncio.Event) -> None:
    faults = FailEvery(settings.number("FAIL_EVERY", 0))
    async with Database.open(settings.data_dir / "inventory.db", TABLES, seed) as database:
        service = InventoryService(Copies(database), faults, stopping)
        add = partial(inventory_pb2_grpc.add_InventoryServiceServicer_to_server, service)
        await serve(inventory_pb2.DESCRIPTOR, add, settings, stopping)


run("inventory", main)
