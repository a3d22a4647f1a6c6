"""Endpoints as callers of one locality see them."""

from hypothesis import given
from hypothesis import strategies as st

from mesh.model.address import Address
from mesh.model.names import Target
from mesh.model.topology import Endpoint, EndpointHealth
from mesh.model.workload import Locality
from mesh.translate.endpoint import load_assignment
from tests.unit.translate.scenarios import as_json

STOCK = Target("shop", "stock", 50051)
HERE, NEAR, FAR = Locality("r1", "z1"), Locality("r1", "z2"), Locality("r2", "z1")

endpoints = st.builds(
    Endpoint,
    st.builds(Address, st.just("127.0.0.1"), st.integers(1, 9)),
    st.sampled_from(EndpointHealth),
    st.sampled_from([HERE, NEAR, FAR]),
)


def an_endpoint(port: int, locality: Locality = HERE, **more: object) -> Endpoint:
    return Endpoint(Address("127.0.0.1", port), locality=locality, **more)  # type: ignore[arg-type]


def test_endpoints_are_grouped_by_locality_nearest_first() -> None:
    seen = load_assignment(
        STOCK, [an_endpoint(1, FAR), an_endpoint(2, NEAR), an_endpoint(3), an_endpoint(4, FAR)], HERE
    )

    assert [(e.locality.region, e.locality.zone, len(e.lb_endpoints)) for e in seen.endpoints] == [
        ("r1", "z1", 1),
        ("r1", "z2", 1),
        ("r2", "z1", 2),
    ]
    assert [group.load_balancing_weight.value for group in seen.endpoints] == [1, 1, 2]
    assert {group.priority for group in seen.endpoints} == {0}


def test_an_unhealthy_endpoint_stays_and_is_marked() -> None:
    seen = load_assignment(STOCK, [an_endpoint(1, health=EndpointHealth.UNHEALTHY), an_endpoint(2)], HERE)

    assert [e["health_status"] for e in as_json(seen)["endpoints"][0]["lb_endpoints"]] == ["UNHEALTHY", "HEALTHY"]


def test_only_an_endpoint_that_says_so_is_called_without_tls() -> None:
    seen = load_assignment(STOCK, [an_endpoint(1), an_endpoint(2, mtls=False)], HERE)
    with_sidecar, without = as_json(seen)["endpoints"][0]["lb_endpoints"]

    assert "metadata" not in with_sidecar
    assert without["metadata"] == {"filter_metadata": {"envoy.transport_socket_match": {"plaintext": True}}}


def test_no_endpoints_are_an_empty_assignment() -> None:
    assert as_json(load_assignment(STOCK, [], HERE)) == {"cluster_name": "shop/stock/50051"}


@given(st.lists(endpoints), st.randoms())
def test_equal_endpoints_are_equal_bytes_in_any_order(some: list[Endpoint], chance: object) -> None:
    shuffled = list(some)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]

    first, second = (load_assignment(STOCK, order, NEAR) for order in (some, shuffled))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
