"""`python -m orders`: takes orders at HOST:PORT, reaches the others at CATALOG_ADDR and INVENTORY_ADDR (host:port).

`kit.settings` lists what else the environment may say.
"""

import asyncio
from functools import partial

from bookstore.orders.v1 import orders_pb2, orders_pb2_grpc

from kit import Database, Settings, connect, run, serve
from orders.service import OrderService
from orders.store import TABLES, Orders
from orders.upstreams import Catalog, Inventory


async def main(settings: Settings, stopping: asyncio.Event) -> None:
    async with (
        Database.open(settings.data_dir / "orders.db", TABLES) as database,
        connect(settings.address("CATALOG_ADDR")) as catalog,
        connect(settings.address("INVENTORY_ADDR")) as inventory,
    ):
        service = OrderService(Orders(database), Catalog(catalog), Inventory(inventory))
        add = partial(orders_pb2_grpc.add_OrderServiceServicer_to_server, service)
        await serve(orders_pb2.DESCRIPTOR, add, settings, stopping)


run("orders", main)
