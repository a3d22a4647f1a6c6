"""How far each resource is that a client follows."""

from mesh.registry.status import Delivery, ResourceStatus
from mesh.snapshot.types import CLUSTER, ROUTE
from tests.unit.xds.proxy import Proxy, a_state


def look(proxy: Proxy) -> dict[str, tuple[Delivery, str]]:
    found: list[ResourceStatus] = list(proxy.stream.resources())
    assert found == sorted(found, key=lambda one: (one.type_url, one.name))
    return {one.name: (one.delivery, one.version) for one in found}


def test_a_resource_is_sent_until_it_is_accepted() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)
    assert look(proxy) == {"a": (Delivery.SENT, "1")}

    proxy.ack(response)
    assert look(proxy) == {"a": (Delivery.ACCEPTED, "1")}


def test_a_refusal_is_one_until_it_is_mended() -> None:
    proxy = Proxy({CLUSTER: {"a": "bad"}})
    [response] = proxy.ask(CLUSTER)
    proxy.nack(response)
    assert look(proxy)["a"][0] is Delivery.REFUSED

    proxy.ack_all(proxy.change(CLUSTER, {"a": "good"}))
    assert look(proxy) == {"a": (Delivery.ACCEPTED, "good")}


def test_what_was_asked_for_and_is_not_there_is_absent() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}, ROUTE: {}})
    proxy.ask(ROUTE, "r")

    assert look(proxy) == {"r": (Delivery.ABSENT, "")}


def test_what_waits_for_an_answer_is_asked_for() -> None:
    proxy = Proxy({ROUTE: {"r": "1"}})
    proxy.ask(ROUTE, "r")
    proxy.ask(ROUTE, "s")

    assert look(proxy) == {"r": (Delivery.SENT, "1"), "s": (Delivery.ASKED, "")}


def test_what_only_waits_for_its_turn_is_not_held_back() -> None:
    proxy = Proxy({ROUTE: {"r": "1"}})
    proxy.ask(ROUTE, "r")
    proxy.change(ROUTE, {"r": "2"})

    assert proxy.stream.waits(a_state(proxy.contents)) == ()
