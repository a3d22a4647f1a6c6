"""How far each resource is that a client follows."""

from datetime import timedelta

from mesh.registry.status import Delivery, ResourceStatus
from mesh.snapshot.types import CLUSTER, LISTENER, ROUTE
from mesh.xds.messages import Moments
from tests.unit.xds.proxy import Proxy, a_state, sent


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


def test_what_was_refused_with_others_and_is_still_to_be_tried_is_refused() -> None:
    proxy = Proxy({ROUTE: {"a": "1", "b": "bad"}})
    [both] = proxy.ask(ROUTE, "a", "b")

    [first] = proxy.nack(both)

    assert sent(first) == {"a": "1"}
    assert look(proxy) == {"a": (Delivery.SENT, "1"), "b": (Delivery.REFUSED, "bad")}


def test_what_was_refused_and_goes_on_as_it_was_is_refused_as_it_should_be() -> None:
    """The client has its last good version, and would be told again only of another."""
    proxy = Proxy({CLUSTER: {"a": "good"}})
    proxy.ack_all(proxy.ask(CLUSTER))
    proxy.answer_all(proxy.change(CLUSTER, {"a": "bad"}), bad=["bad"])

    assert look(proxy) == {"a": (Delivery.REFUSED, "bad")}
    assert proxy.stream.refuses(proxy.state)
    assert proxy.change(CLUSTER, {"a": "bad", "b": "bad"})
    proxy.contents[CLUSTER] = {"a": "good", "b": "bad"}
    assert not proxy.stream.refuses(proxy.state)


def test_how_many_resources_a_client_has_is_counted() -> None:
    proxy = Proxy({CLUSTER: {"a": "1", "b": "1"}, ROUTE: {"r": "1"}})
    [clusters] = proxy.ask(CLUSTER)
    proxy.ask(LISTENER)

    def counts() -> dict[str, int]:
        return {one.type_url: one.resources for one in proxy.stream.types(proxy.state)}

    assert counts() == {CLUSTER: 2, LISTENER: 0}
    proxy.ack_all(proxy.ack(clusters))
    proxy.ack_all(proxy.ask(ROUTE, "r", "missing"))
    assert counts() == {CLUSTER: 2, LISTENER: 0, ROUTE: 1}


def test_since_when_something_was_sent_accepted_and_refused_is_known() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)
    assert proxy.stream.moments(CLUSTER) == Moments(sent=timedelta(), acked=None, nacked=None)

    proxy.wait(1)
    proxy.ack(response)
    proxy.wait(1)
    [bad] = proxy.change(CLUSTER, {"a": "bad"})
    proxy.wait(1)
    proxy.nack(bad)

    sent_at, acked_at, nacked_at = (timedelta(seconds=seconds) for seconds in (2, 1, 3))
    assert proxy.stream.moments(CLUSTER) == Moments(sent_at, acked_at, nacked_at)
