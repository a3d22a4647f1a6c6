"""What a stage that is refused, or not answered, holds back, and what goes on."""

from datetime import timedelta

import pytest

from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.unit.xds.proxy import Proxy, SotwProxy, removed, sent

NEEDS = {(ROUTE, "x"): ((CLUSTER, "new"),), (ROUTE, "y"): ((CLUSTER, "old"),)}
OLD = {CLUSTER: {"old": "1"}, ENDPOINT: {"old": "1"}, ROUTE: {"x": "1", "y": "1"}}
Client = Proxy | SotwProxy
VARIANTS = pytest.mark.parametrize("client", [Proxy, SotwProxy], ids=["delta", "sotw"])


def moving(client: type[Client]) -> tuple[Client, list]:
    """A client that has all of `OLD`, and what it is sent when `x` moves to a new cluster and `y` changes."""
    proxy = client(OLD, NEEDS)
    proxy.ack_all(proxy.ask(CLUSTER))
    proxy.ack_all(proxy.ask(ENDPOINT, "old"))
    proxy.ack_all(proxy.ask(ROUTE, "x", "y"))
    assert proxy.stream.next_deadline() is None
    proxy.contents |= {ROUTE: {"x": "2", "y": "2"}}
    return proxy, proxy.change(CLUSTER, {"new": "1"})


@VARIANTS
def test_all_traffic_waits_for_an_answer_that_may_still_come(client: type[Client]) -> None:
    proxy, [_] = moving(client)

    assert proxy.stream.next_deadline() == timedelta(seconds=20)
    assert proxy.wait(19.9) == []
    assert proxy.waits() == {"x": {"new"}, "y": {"new"}, "old": {"new", "x", "y"}}
    assert not proxy.stream.is_quiet(proxy.state)


@VARIANTS
def test_a_silent_stage_holds_back_only_what_needs_it_and_removals(client: type[Client]) -> None:
    proxy, [clusters] = moving(client)

    [route] = proxy.wait(20)
    assert sent(route) == {"y": "2"}
    assert proxy.ack(route) == []
    assert proxy.waits() == {"x": {"new"}, "old": {"new", "x"}}
    assert proxy.stream.next_deadline() is None

    [late] = proxy.ack(clusters)
    assert sent(late) == {"x": "2"}
    [removal] = proxy.ack(late)
    assert removed(removal) == ("old",)
    assert proxy.waits() == {}


@VARIANTS
def test_traffic_does_not_wait_for_ever_for_a_foundation_that_goes_on_changing(client: type[Client]) -> None:
    """Each answer finds the next change waiting, so something of the foundation is always on its way."""
    proxy, [clusters] = moving(client)
    sent_of_y = []
    for second in range(1, 30):
        responses = proxy.wait(1)
        proxy.contents |= {CLUSTER: {**proxy.contents[CLUSTER], "busy": str(second)}}
        responses += proxy.ack(clusters)
        [clusters] = [one for one in responses if one.type_url == CLUSTER]
        sent_of_y += [second for one in responses if one.type_url == ROUTE and "y" in sent(one)]

    assert sent_of_y == [20]


@VARIANTS
def test_a_refused_stage_holds_back_only_what_needs_it_and_removals(client: type[Client]) -> None:
    proxy, [clusters] = moving(client)

    [route] = proxy.nack(clusters)
    assert sent(route) == {"y": "2"}
    assert proxy.ack(route) == []
    assert proxy.waits() == {"x": {"new"}, "old": {"new", "x"}}
    assert proxy.stream.is_quiet(proxy.state)
    [held] = [one.held for one in proxy.stream.types(proxy.state) if one.type_url == ROUTE]
    assert held == ("x",)


@VARIANTS
def test_traffic_that_was_held_back_goes_when_what_it_needs_is_mended(client: type[Client]) -> None:
    proxy, [clusters] = moving(client)
    proxy.ack_all(proxy.nack(clusters))

    mended, route, removal = proxy.ack_all(proxy.change(CLUSTER, {"new": "2"}))

    assert sent(mended)["new"] == "2"
    assert sent(route) == {"x": "2"}
    assert removed(removal) == ("old",)


@VARIANTS
def test_traffic_waits_for_the_first_endpoints_of_a_new_cluster(client: type[Client]) -> None:
    proxy, [clusters] = moving(client)
    proxy.contents[ENDPOINT] = {"old": "1", "new": "bad"}
    [endpoints] = proxy.ask(ENDPOINT, *(["new"] if client is Proxy else ["old", "new"]))
    assert sent(endpoints) == {"new": "bad"}
    proxy.nack(endpoints)

    [route] = proxy.ack(clusters)

    assert sent(route) == {"y": "2"}
    assert proxy.waits()["x"] == {"new"}


@VARIANTS
def test_endpoints_that_change_alone_hold_back_nothing(client: type[Client]) -> None:
    proxy = client(OLD, NEEDS)
    proxy.ack_all(proxy.ask(CLUSTER))
    proxy.ack_all(proxy.ask(ENDPOINT, "old"))
    proxy.ack_all(proxy.ask(ROUTE, "x", "y"))
    proxy.change(ENDPOINT, {"old": "2"})

    [route] = proxy.change(ROUTE, {"x": "1", "y": "2"})

    assert sent(route) == {"y": "2"}


def test_a_silent_client_is_answered_its_first_wildcard_without_what_is_held_back() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}, LISTENER: {"free": "1", "held": "1"}}, {(LISTENER, "held"): ((CLUSTER, "a"),)})
    proxy.ask(CLUSTER)
    assert proxy.ask(LISTENER) == []

    [listeners] = proxy.wait(20)

    assert sent(listeners) == {"free": "1"}


def test_sotw_first_full_set_holds_back_nothing() -> None:
    """The client may come back, run the listener, and would delete what is missing."""
    needs = {(LISTENER, "held"): ((CLUSTER, "a"),)}
    proxy = SotwProxy({CLUSTER: {"a": "1"}, LISTENER: {"free": "1", "held": "1"}}, needs)
    proxy.ask(CLUSTER)
    assert proxy.ask(LISTENER, version="of another stream") == []

    [listeners] = proxy.wait(20)

    assert sent(listeners) == {"free": "1", "held": "1"}


def test_sotw_first_full_set_is_not_sent_in_part() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "1"}, LISTENER: {"named": "1", "other": "1"}})
    [clusters] = proxy.ask(CLUSTER)
    assert proxy.ask(LISTENER, "*", "named") == []

    [listeners] = proxy.ack(clusters)

    assert sent(listeners) == {"named": "1", "other": "1"}


def test_routes_on_trial_wait_for_the_clusters_that_they_need() -> None:
    proxy = Proxy({CLUSTER: {"new": "bad"}, ROUTE: {"x": "bad", "z": "1"}}, NEEDS)
    proxy.answer_all(proxy.ask(CLUSTER), bad=["bad"])

    proxy.answer_all(proxy.ask(ROUTE, "x", "z"), bad=["bad"])

    assert proxy.waits()["x"] == {"new"}
    first, *rest = proxy.answer_all(proxy.change(CLUSTER, {"new": "2"}), bad=["bad"])
    assert sent(first) == {"new": "2"}
    assert [sent(one) for one in rest] == [{"x": "bad"}]


@VARIANTS
def test_what_follows_its_own_type_waits_for_nothing_else(client: type[Client]) -> None:
    proxy = client(OLD, NEEDS)
    proxy.ack_all(proxy.ask(CLUSTER))
    proxy.ack_all(proxy.ask(ROUTE, "x", "y"))
    [first] = proxy.change(ROUTE, {"x": "1", "y": "2"})
    assert proxy.change(ROUTE, {"x": "1", "y": "3"}) == []

    assert proxy.waits() == {}
    assert sent(proxy.ack(first)[0]) == {"y": "3"}
