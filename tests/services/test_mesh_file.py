"""The bookstore's mesh file and protos say what the services do."""

import pytest
from bookstore.catalog.v1 import catalog_pb2
from bookstore.inventory.v1 import inventory_pb2
from bookstore.orders.v1 import orders_pb2
from google.protobuf.descriptor_pb2 import MethodOptions

READ, IDEMPOTENT, UNKNOWN = (
    MethodOptions.NO_SIDE_EFFECTS,
    MethodOptions.IDEMPOTENT,
    MethodOptions.IDEMPOTENCY_UNKNOWN,
)


@pytest.mark.parametrize(
    ("file", "levels"),
    [
        (catalog_pb2, {"GetBook": READ, "ListBooks": READ, "SearchBooks": READ}),
        (
            inventory_pb2,
            {"GetStock": READ, "WatchStock": READ, "AddStock": UNKNOWN, "Reserve": IDEMPOTENT, "Release": IDEMPOTENT},
        ),
        (orders_pb2, {"PlaceOrder": IDEMPOTENT, "GetOrder": READ, "ListOrders": READ, "CancelOrder": IDEMPOTENT}),
    ],
    ids=["catalog", "inventory", "orders"],
)
def test_the_protos_say_what_may_be_repeated(file, levels):
    [service] = file.DESCRIPTOR.services_by_name.values()

    assert {method.name: method.GetOptions().idempotency_level for method in service.methods} == levels
