"""What is said about a document while proxies run it, wait for it, or refuse it."""

import pytest

from mesh.controlplane.conditions import Condition, Obstacle, Standing, conditions_of, parents_of, programmed
from mesh.model.documents import Key, Mesh
from mesh.model.schema import Method, Schema
from mesh.model.topology import topology_of
from mesh.policy.check import conflicts
from tests.builders import a_grpc_route, a_policy, a_workload, an_http_route, documents

SHOP = documents(
    a_workload("stock"),
    a_policy("retry", "{targetRefs: [{kind: Service, name: stock}], retry: {numRetries: 3}}"),
)
[STOCK], [RETRY] = SHOP.workloads, SHOP.traffic_policies
OF_STOCK, OF_RETRY = Key("Workload", "shop", "stock"), Key("BackendTrafficPolicy", "shop", "retry")
BOTH = frozenset({OF_STOCK, OF_RETRY})
REFUSED = Obstacle("RouteConfiguration outbound: no such thing", frozenset({OF_RETRY}))


def a_standing(node_id: str = "shop/web/web-0", **changes: object) -> Standing:
    return Standing(node_id, **{"origins": BOTH, **changes})  # type: ignore[arg-type]


def test_a_document_that_every_proxy_has_acknowledged_is_programmed() -> None:
    standings = [a_standing(), a_standing("shop/stock/stock-0", origins=frozenset({OF_STOCK}))]

    assert programmed(RETRY, standings) == Condition(
        "Programmed", True, "Programmed", "concerns 1 of the connected proxies"
    )


def test_a_document_that_concerns_no_proxy_is_programmed() -> None:
    assert programmed(RETRY, [a_standing(origins=frozenset())]).status


def test_a_refusal_is_told_with_the_proxy_and_its_words() -> None:
    condition = programmed(RETRY, [a_standing(refused=(REFUSED,), lags=True, problem="odd")])

    assert condition == Condition(
        "Programmed", False, "Refused", "shop/web/web-0: RouteConfiguration outbound: no such thing"
    )


def test_a_refusal_of_something_else_does_not_concern_it() -> None:
    assert programmed(STOCK, [a_standing(refused=(REFUSED,))]).status


def test_what_is_held_back_says_for_what() -> None:
    held = Obstacle("RouteConfiguration outbound waits for Cluster shop/mail/25", frozenset({OF_RETRY}))
    standings = [a_standing(held=(held,), lags=True)]

    assert programmed(RETRY, standings) == Condition(
        "Programmed", False, "Held", "shop/web/web-0: RouteConfiguration outbound waits for Cluster shop/mail/25"
    )
    assert programmed(STOCK, standings).reason == "Pending"


def test_a_proxy_that_lags_is_waited_for() -> None:
    standings = [a_standing(f"shop/web/web-{n}", lags=True) for n in range(5)]

    assert programmed(RETRY, standings) == Condition(
        "Programmed", False, "Pending", "waiting for shop/web/web-0, shop/web/web-1, shop/web/web-2, and 2 more"
    )


def test_a_proxy_for_which_nothing_can_be_made_is_told() -> None:
    assert programmed(RETRY, [a_standing(problem="it names nobody")]) == Condition(
        "Programmed", False, "Invalid", "shop/web/web-0: it names nobody"
    )


def test_the_mesh_concerns_every_proxy() -> None:
    assert programmed(Mesh(), [a_standing(origins=frozenset(), lags=True)]).reason == "Pending"


@pytest.mark.parametrize(
    ("resource", "types"),
    [
        pytest.param(Mesh(), ["Accepted", "Programmed"], id="Mesh"),
        pytest.param(STOCK, ["Accepted", "ResolvedRefs", "Programmed"], id="Workload"),
        pytest.param(RETRY, ["Accepted", "ResolvedRefs", "Programmed"], id="policy"),
    ],
)
def test_each_kind_has_its_conditions(resource: object, types: list[str]) -> None:
    found = conditions_of(resource, topology_of(SHOP), (), (), ())  # type: ignore[arg-type]

    assert [condition.type for condition in found] == types


def test_what_cannot_be_checked_is_said_and_counts() -> None:
    mesh = documents(a_workload("stock"), a_grpc_route("r", "{matches: [{method: {service: a.B}}]}", "stock"))

    resolved = list(conditions_of(mesh.routes[0], topology_of(mesh), (), (), ()))[1]

    assert resolved == Condition(
        "ResolvedRefs",
        True,
        "ResolvedRefs",
        "the methods that it names are not checked: no schema is known of service stock. "
        "Switch on server reflection there, or use `proa schema push`.",
    )


ROUTED = documents(
    a_workload("stock", "ports: [{port: 80, appProtocol: http2}]"),
    a_grpc_route("good", "{backendRefs: [{name: stock, port: 80}]}", "stock"),
    a_grpc_route("lost", "{backendRefs: [{name: gone, port: 80}]}", "nowhere"),
    an_http_route("given-way", "{backendRefs: [{name: stock, namespace: office, port: 80}]}", "stock"),
    a_workload("stock", "ports: [{port: 80, appProtocol: http}]", namespace="office"),
)


def of_route(name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Reasons by type, of the document and of its only parent."""
    [route] = [route for route in ROUTED.routes if route.name == name]
    topology = topology_of(ROUTED)
    given_way = conflicts(ROUTED, topology)
    [parent] = parents_of(route, topology, (), given_way)
    assert parent.parent == route.parents[0]
    whole = conditions_of(route, topology, (), given_way, ())
    found = [{one.type: "" if one.status else one.reason for one in of} for of in (whole, parent.conditions)]
    return found[0], found[1]


def test_a_route_says_for_each_parent_what_is_wrong() -> None:
    assert of_route("good")[1] == {"Accepted": "", "ResolvedRefs": ""}
    assert of_route("lost")[1] == {"Accepted": "NoMatchingParent", "ResolvedRefs": "BackendNotFound"}
    assert of_route("given-way")[1] == {"Accepted": "Conflicted", "ResolvedRefs": "RefNotPermitted"}


def test_a_route_says_as_a_whole_what_is_wrong() -> None:
    assert of_route("good")[0] == {"Accepted": "", "ResolvedRefs": "", "Programmed": ""}
    assert of_route("lost")[0]["ResolvedRefs"] == "NoMatchingParent"
    assert of_route("given-way")[0]["Accepted"] == "Conflicted"
    assert list(parents_of(STOCK, topology_of(SHOP), (), ())) == []


def test_a_method_that_goes_from_the_schema_is_told() -> None:
    policy = documents(
        a_policy("p", "{targetRefs: [{kind: Service, name: stock}], methods: [{method: {service: a.B, method: C}}]}")
    ).traffic_policies[0]
    known = topology_of(SHOP, {("shop", "stock", "v1"): Schema.of([Method("a.B", "D")])})

    [_, refs, _] = conditions_of(policy, known, (), (), ())

    assert (refs.status, refs.reason) == (False, "MethodNotFound")
