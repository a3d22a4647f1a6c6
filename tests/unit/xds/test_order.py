"""Make before break: in which order types are sent, and what waits for what."""

import pytest

from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME
from mesh.xds.messages import Response
from tests.unit.xds.proxy import Contents, Proxy, a_state, removed, sent

OLD: Contents = {
    CLUSTER: {"old": "1"},
    ENDPOINT: {"old": "1"},
    LISTENER: {"l": "1"},
    ROUTE: {"r": "to old"},
}


def connected(contents: Contents = OLD) -> Proxy:
    """A proxy that has everything and is quiet."""
    proxy = Proxy(contents)
    proxy.ack_all(proxy.ask(CLUSTER))
    proxy.ack_all(proxy.ask(ENDPOINT, *contents[ENDPOINT]))
    proxy.ack_all(proxy.ask(LISTENER))
    proxy.ack_all(proxy.ask(ROUTE, *contents[ROUTE]))
    assert proxy.stream.is_quiet(a_state(proxy.contents))
    return proxy


def types(responses: list[Response]) -> list[str]:
    return [response.type_url for response in responses]


def test_traffic_moves_to_a_new_cluster_before_the_old_one_goes() -> None:
    proxy = connected()
    proxy.contents |= {ENDPOINT: {"new": "1"}, ROUTE: {"r": "to new"}}

    [clusters] = proxy.change(CLUSTER, {"new": "1"})
    assert sent(clusters) == {"new": "1"}
    assert removed(clusters) == ()
    [endpoints] = proxy.ask(ENDPOINT, "new")
    assert sent(endpoints) == {"new": "1"}
    assert proxy.ack(endpoints) == []
    [routes] = proxy.ack(clusters)
    assert sent(routes) == {"r": "to new"}
    [removal] = proxy.ack(routes)
    assert removal.type_url == CLUSTER
    assert removed(removal) == ("old",)


def test_endpoints_never_wait_for_the_ack_of_their_cluster() -> None:
    """That ACK comes only after the endpoints have come."""
    proxy = Proxy({CLUSTER: {"a": "1"}, ENDPOINT: {"a": "1"}})
    proxy.ask(CLUSTER)

    assert types(proxy.ask(ENDPOINT, "a")) == [ENDPOINT]


def test_a_changed_cluster_is_followed_by_its_unchanged_endpoints() -> None:
    """A proxy that has them does not ask again, and the changed cluster warms until they come."""
    proxy = connected({**OLD, CLUSTER: {"old": "1", "b": "1"}, ENDPOINT: {"old": "1", "b": "1"}})

    clusters, endpoints = proxy.change(CLUSTER, {"old": "2", "b": "1"})

    assert sent(clusters) == {"old": "2"}
    assert sent(endpoints) == {"old": "1"}


def test_clusters_that_change_one_after_the_other_are_all_followed_by_their_endpoints() -> None:
    """The second changes when the first was sent and accepted, and its endpoints were not sent yet."""
    proxy = connected({**OLD, CLUSTER: {"a": "1", "b": "1"}, ENDPOINT: {"a": "1", "b": "1"}})
    proxy.contents[CLUSTER] = {"a": "2", "b": "1"}
    first = proxy.stream.next_response(proxy.state, proxy.now)
    assert first
    proxy.contents[CLUSTER] = {"a": "2", "b": "2"}

    second, endpoints = proxy.ack(first)

    assert sent(second) == {"b": "2"}
    assert sent(endpoints) == {"a": "1", "b": "1"}


def test_a_cluster_that_changed_while_the_proxy_was_away_is_followed_by_its_endpoints() -> None:
    proxy = Proxy({CLUSTER: {"a": "2", "b": "1"}, ENDPOINT: {"a": "1", "b": "1"}})
    [clusters] = proxy.ask(CLUSTER, held={"a": "1", "b": "1"})
    assert sent(clusters) == {"a": "2"}

    [endpoints] = proxy.ask(ENDPOINT, "a", "b", held={"a": "1", "b": "1"})

    assert sent(endpoints) == {"a": "1"}


def test_a_cluster_that_changed_is_followed_by_endpoints_that_were_asked_for_first() -> None:
    proxy = Proxy({CLUSTER: {"a": "2"}, ENDPOINT: {"a": "1"}})
    assert proxy.ask(ENDPOINT, "a", held={"a": "1"}) == []

    clusters, endpoints = proxy.ask(CLUSTER, held={"a": "1"})

    assert sent(clusters) == {"a": "2"}
    assert sent(endpoints) == {"a": "1"}


def test_a_cluster_that_is_gone_is_not_followed_by_its_endpoints() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}, ENDPOINT: {"a": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER))
    proxy.ack_all(proxy.change(CLUSTER, {}))

    assert proxy.ask(ENDPOINT, "a", held={"a": "1"}) == []


def test_an_unchanged_cluster_is_not_followed_by_its_endpoints() -> None:
    proxy = connected()

    [clusters] = proxy.change(CLUSTER, {"old": "1", "new": "1"})

    assert proxy.ack(clusters) == []


def test_listeners_and_routes_wait_for_the_acks_of_what_they_point_at() -> None:
    proxy = connected()
    proxy.contents |= {LISTENER: {"l": "2"}, ROUTE: {"r": "2"}}

    clusters, endpoints = proxy.change(CLUSTER, {"old": "2"})

    assert types([clusters, endpoints]) == [CLUSTER, ENDPOINT]
    assert proxy.ack(clusters) == []
    assert types(proxy.ack(endpoints)) == [LISTENER, ROUTE]


def test_endpoints_alone_wait_for_nothing() -> None:
    proxy = connected()
    proxy.change(LISTENER, {"l": "2"})
    proxy.change(ROUTE, {"r": "2"})

    assert types(proxy.change(ENDPOINT, {"old": "2"})) == [ENDPOINT]


def test_types_that_the_mesh_does_not_know_wait_for_nothing() -> None:
    proxy = connected()
    proxy.change(ROUTE, {"r": "2"})

    assert types(proxy.ask("type.googleapis.com/some.Type", "x")) == ["type.googleapis.com/some.Type"]


def test_a_route_that_is_asked_for_is_answered_in_any_stage() -> None:
    proxy = connected()
    proxy.contents[ROUTE] = {"r": "2", "asked for": "1"}
    proxy.change(CLUSTER, {"old": "2"})

    [answer] = proxy.ask(ROUTE, "asked for")

    assert sent(answer) == {"asked for": "1"}


def test_a_first_wildcard_for_listeners_waits_for_the_clusters_and_is_then_answered_whole() -> None:
    """An early empty answer would let the proxy believe that there are no listeners."""
    proxy = Proxy({CLUSTER: {"a": "1"}, LISTENER: {"l": "1"}})
    [clusters] = proxy.ask(CLUSTER)
    assert proxy.ask(LISTENER) == []

    [listeners] = proxy.ack(clusters)

    assert sent(listeners) == {"l": "1"}


def test_what_sends_traffic_is_removed_before_what_it_sends_it_to() -> None:
    proxy = connected()
    proxy.contents |= {LISTENER: {}, ROUTE: {}, ENDPOINT: {}}

    removals = proxy.ack_all(proxy.change(CLUSTER, {}))

    assert types(removals) == [LISTENER, ROUTE, CLUSTER, ENDPOINT]


def test_a_refused_cluster_holds_back_removals_but_not_the_rest() -> None:
    proxy = connected()
    proxy.contents |= {ROUTE: {"r": "to new"}}
    [clusters] = proxy.change(CLUSTER, {"new": "1"})

    [routes] = proxy.nack(clusters)

    assert sent(routes) == {"r": "to new"}
    assert proxy.ack(routes) == []
    [mended] = proxy.change(CLUSTER, {"new": "2"})
    assert sent(mended) == {"new": "2"}
    [removal] = proxy.ack(mended)
    assert removed(removal) == ("old",)


def test_removals_come_when_what_was_refused_is_deleted() -> None:
    proxy = connected()
    [clusters] = proxy.change(CLUSTER, {"new": "1"})
    assert proxy.nack(clusters) == []

    [removal] = proxy.change(CLUSTER, {})

    assert removed(removal) == ("new", "old")


@pytest.mark.parametrize("missing", [CLUSTER, LISTENER, ROUTE, RUNTIME])
def test_a_proxy_that_has_yet_to_ask_for_a_type_is_not_quiet(missing: str) -> None:
    asked = {CLUSTER: "*", LISTENER: "*", ROUTE: "r", RUNTIME: "layer"}
    proxy = Proxy({**OLD, RUNTIME: {"layer": "1"}})
    for type_url in asked.keys() - {missing}:
        proxy.ack_all(proxy.ask(type_url, asked[type_url]))
    assert not proxy.stream.is_quiet(a_state(proxy.contents))

    proxy.ack_all(proxy.ask(missing, asked[missing]))

    assert proxy.stream.is_quiet(a_state(proxy.contents))


def test_a_proxy_with_a_response_in_flight_is_not_quiet() -> None:
    proxy = connected()
    proxy.change(ENDPOINT, {"old": "2"})

    assert not proxy.stream.is_quiet(a_state(proxy.contents))
