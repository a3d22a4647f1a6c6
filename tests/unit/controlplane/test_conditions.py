"""What is said about a document while proxies run it, wait for it, or refuse it."""

import pytest

from mesh.controlplane.conditions import Condition, Obstacle, Standing, conditions_of, programmed
from mesh.model.documents import Key, Mesh
from mesh.model.topology import topology_of
from tests.builders import a_policy, a_workload, documents

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
    found = conditions_of(resource, topology_of(SHOP), (), ())  # type: ignore[arg-type]

    assert [condition.type for condition in found] == types
