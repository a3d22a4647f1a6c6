"""What is known of the methods of a service."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model.schema import CallOptions, HttpRule, Idempotency, Method, Schema, union
from mesh.model.topology import topology_of
from mesh.model.traffic import Timeouts
from tests.builders import a_workload, documents

GET = Method("shop.v1.Orders", "Get", idempotency=Idempotency.NO_SIDE_EFFECTS)
PUT = Method("shop.v1.Orders", "Put")
WATCH = Method("shop.v1.Stock", "Watch", server_streaming=True)
SCHEMA = Schema.of([WATCH, PUT, GET])


def test_a_method_is_found_by_its_names() -> None:
    assert SCHEMA.methods == (GET, PUT, WATCH)
    assert SCHEMA.method("shop.v1.Orders", "Put") is PUT
    assert SCHEMA.method("shop.v1.Orders", "Zap") is None
    assert SCHEMA.method("shop.v1.Zones", "Get") is None
    assert SCHEMA.services == ("shop.v1.Orders", "shop.v1.Stock")
    assert SCHEMA.methods_of("shop.v1.Stock") == (WATCH,)
    assert (GET.path, GET.streams, WATCH.streams) == ("/shop.v1.Orders/Get", False, True)


def test_of_two_methods_with_one_name_the_first_counts() -> None:
    assert Schema.of([GET, replace(GET, deprecated=True)]).methods == (GET,)


@pytest.mark.parametrize(
    ("service", "name", "nearest"),
    [
        pytest.param("shop.v1.Orders", "Gett", "shop.v1.Orders/Get", id="a method misspelled"),
        pytest.param("shop.v1.Orders", "get", "shop.v1.Orders/Get", id="a method in lower case"),
        pytest.param("shop.v1.Orders", "Frobnicate", None, id="no such method, and nothing near"),
        pytest.param("shop.v1.Order", "", "shop.v1.Orders", id="a service misspelled"),
        pytest.param("Stock", "", "shop.v1.Stock", id="a service without its package"),
        pytest.param("warehouse.Stock", "Watch", "shop.v1.Stock/Watch", id="a service in another package"),
        pytest.param("shop.v1.Order", "Frobnicate", "shop.v1.Orders", id="near service, nothing near in it"),
        pytest.param("x", "Get", None, id="no such service, and nothing near"),
    ],
)
def test_the_nearest_name_is_offered(service: str, name: str, nearest: str | None) -> None:
    assert SCHEMA.nearest(service, name) == nearest


def test_versions_that_disagree_promise_what_the_more_careful_one_does() -> None:
    said = CallOptions(timeouts=Timeouts(request=timedelta(seconds=2)))
    one = replace(GET, options=said, http=(HttpRule("GET", "/orders"),))
    other = replace(GET, idempotency=Idempotency.IDEMPOTENT, server_streaming=True, deprecated=True)

    together = union([Schema.of([one]), Schema.of([other, PUT])])

    cautious = replace(one, idempotency=Idempotency.IDEMPOTENT, server_streaming=True, deprecated=True)
    assert together == Schema((cautious, PUT))


METHODS = st.builds(
    Method,
    service=st.sampled_from(["a.A", "b.B"]),
    name=st.sampled_from(["X", "Y"]),
    client_streaming=st.booleans(),
    server_streaming=st.booleans(),
    idempotency=st.sampled_from(Idempotency),
    deprecated=st.booleans(),
)
SCHEMAS = st.builds(Schema.of, st.lists(METHODS, max_size=4), complete=st.booleans())


@given(schemas=st.lists(SCHEMAS, max_size=4), order=st.randoms())
def test_a_union_is_that_of_its_parts_in_any_order(schemas: list[Schema], order: object) -> None:
    shuffled = list(schemas)
    order.shuffle(shuffled)  # type: ignore[attr-defined]

    together = union(schemas)

    assert union(shuffled) == together
    for method in (method for schema in schemas for method in schema.methods):
        known = together.method(method.service, method.name)
        assert known is not None
        assert known.streams >= method.streams
    assert union([*schemas, together]) == together


def test_a_method_that_only_the_canary_has_is_known_and_so_is_who_has_it() -> None:
    mesh = documents(a_workload("orders"), a_workload("canary", "port: 50051, service: orders, version: v2"))
    v1, v2 = Schema.of([GET]), Schema.of([GET, PUT])
    topology = topology_of(mesh, {("shop", "orders", "v1"): v1, ("shop", "orders", "v2"): v2})

    assert topology.schema("shop", "orders") == v2
    assert topology.schema("shop", "orders", "v1") == v1
    assert topology.versions_with("shop", "orders", PUT) == ("v2",)
    assert topology.versions_with("shop", "orders", GET) == ("v1", "v2")


def test_a_schema_is_not_complete_while_one_version_does_not_tell() -> None:
    mesh = documents(a_workload("orders"), a_workload("canary", "port: 50051, service: orders, version: v2"))
    topology = topology_of(mesh, {("shop", "orders", "v1"): SCHEMA, ("shop", "gone", "v1"): SCHEMA})

    assert topology.schema("shop", "orders") == replace(SCHEMA, complete=False)
    assert topology.schema("shop", "orders", "v2") is None
    assert topology.schema("shop", "gone") is None
    assert topology_of(mesh).schema("shop", "orders") is None
