"""The state of the world: what a stream of this variant is told, and what its requests mean."""

import pytest

from mesh.api.envoy.service.discovery.v3 import discovery_pb2
from mesh.errors import LimitError, ProtocolError
from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET
from mesh.xds.sotw import SotwStream
from mesh.xds.stages import MAX_NAMES
from tests.unit.xds.proxy import Proxy, SotwProxy, sent

FULL = pytest.mark.parametrize("type_url", [CLUSTER, LISTENER], ids=["cluster", "listener"])
CHANGED = pytest.mark.parametrize("type_url", [ENDPOINT, ROUTE, SECRET, "type.googleapis.com/some.other.Type"])


@FULL
def test_sotw_first_request_without_names_is_a_wildcard(type_url: str) -> None:
    [response] = SotwProxy({type_url: {"a": "1", "b": "1"}}).ask(type_url)

    assert sent(response) == {"a": "1", "b": "1"}


@FULL
def test_sotw_star_is_a_wildcard_and_may_stand_beside_names(type_url: str) -> None:
    [response] = SotwProxy({type_url: {"a": "1", "b": "1"}}).ask(type_url, "*", "ghost")

    assert sent(response) == {"a": "1", "b": "1"}


@FULL
def test_sotw_wildcard_is_answered_although_there_is_nothing(type_url: str) -> None:
    [response] = SotwProxy({}).ask(type_url)

    assert (sent(response), response.version) == ({}, "")


@CHANGED
def test_sotw_other_types_have_no_wildcard(type_url: str) -> None:
    proxy = SotwProxy({type_url: {"a": "1"}})

    assert proxy.ask(type_url) == []
    assert proxy.change(type_url, {"a": "2"}) == []


def test_sotw_subscriptions_follow_the_four_steps_of_the_specification() -> None:
    """{} -> {*, A} -> {A} -> {}."""
    proxy = SotwProxy({CLUSTER: {"A": "1", "B": "1"}})
    [first] = proxy.ask(CLUSTER)
    [second] = proxy.ask(CLUSTER, "*", "A", nonce=first.nonce)
    assert sent(second) == {"A": "1", "B": "1"}

    assert proxy.ask(CLUSTER, "A", nonce=second.nonce) == []
    [third] = proxy.change(CLUSTER, {"A": "2", "B": "2"})
    assert sent(third) == {"A": "2"}

    assert proxy.ask(CLUSTER, nonce=third.nonce) == []
    assert proxy.change(CLUSTER, {"A": "3", "B": "3"}) == []
    assert proxy.ask(CLUSTER, nonce=third.nonce) == []


def test_sotw_repeated_empty_requests_keep_the_wildcard() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER))

    [response] = proxy.change(CLUSTER, {"a": "2"})

    assert sent(response) == {"a": "2"}


def test_sotw_empty_list_that_comes_with_something_else_keeps_the_wildcard() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)
    locator = discovery_pb2.ResourceLocator(name="nothing of ours")
    request = discovery_pb2.DiscoveryRequest(
        type_url=CLUSTER, response_nonce=response.nonce, resource_locators=[locator]
    )

    proxy.stream.receive(request, proxy.now)

    assert [sent(one) for one in proxy.change(CLUSTER, {"a": "2"})] == [{"a": "2"}]


def test_sotw_list_in_another_order_asks_for_the_same() -> None:
    proxy = SotwProxy({ROUTE: {"a": "1", "b": "1"}})
    [response] = proxy.ask(ROUTE, "a", "b")

    assert proxy.ask(ROUTE, "b", "a", nonce=response.nonce) == []


@FULL
def test_sotw_full_types_are_sent_whole_with_what_has_not_changed(type_url: str) -> None:
    proxy = SotwProxy({type_url: {"a": "1", "b": "1"}})
    proxy.ack_all(proxy.ask(type_url))

    [response] = proxy.change(type_url, {"a": "2", "b": "1"})

    assert sent(response) == {"a": "2", "b": "1"}


@FULL
def test_sotw_full_types_lose_what_is_gone_by_absence(type_url: str) -> None:
    proxy = SotwProxy({type_url: {"a": "1", "b": "1"}})
    proxy.ack_all(proxy.ask(type_url))

    [one] = proxy.change(type_url, {"a": "1"})
    assert sent(one) == {"a": "1"}
    proxy.ack(one)

    [none] = proxy.change(type_url, {})
    assert sent(none) == {}
    assert proxy.ack(none) == []


@CHANGED
def test_sotw_other_types_are_sent_as_far_as_they_changed(type_url: str) -> None:
    proxy = SotwProxy({type_url: {"a": "1", "b": "1"}})
    proxy.ack_all(proxy.ask(type_url, "a", "b"))

    [response] = proxy.change(type_url, {"a": "2", "b": "1"})

    assert sent(response) == {"a": "2"}


@CHANGED
def test_sotw_deletion_of_other_types_is_silent_and_a_new_creation_is_sent(type_url: str) -> None:
    proxy = SotwProxy({type_url: {"a": "1", "b": "1"}})
    proxy.ack_all(proxy.ask(type_url, "a", "b"))

    assert proxy.change(type_url, {"b": "1"}) == []

    [response] = proxy.change(type_url, {"a": "1", "b": "1"})
    assert sent(response) == {"a": "1"}


@CHANGED
def test_sotw_newly_named_resource_is_sent_although_nothing_changed(type_url: str) -> None:
    proxy = SotwProxy({type_url: {"a": "1", "b": "1"}})
    [first] = proxy.ask(type_url, "a")

    [second] = proxy.ask(type_url, "a", "b", nonce=first.nonce)

    assert sent(second) == {"b": "1"}


@FULL
def test_sotw_newly_named_resource_of_a_full_type_comes_with_the_others(type_url: str) -> None:
    proxy = SotwProxy({type_url: {"a": "1", "b": "1", "c": "1"}})
    [first] = proxy.ask(type_url, "a")
    assert sent(first) == {"a": "1"}

    [second] = proxy.ask(type_url, "a", "b", nonce=first.nonce)

    assert sent(second) == {"a": "1", "b": "1"}


@CHANGED
def test_sotw_name_that_is_dropped_and_named_again_is_sent_again(type_url: str) -> None:
    proxy = SotwProxy({type_url: {"a": "1", "b": "1"}})
    [first] = proxy.ask(type_url, "a", "b")
    assert proxy.ask(type_url, "a", nonce=first.nonce) == []

    [again] = proxy.ask(type_url, "a", "b", nonce=first.nonce)

    assert sent(again) == {"b": "1"}


@CHANGED
def test_sotw_missing_name_is_remembered_and_sent_when_it_appears(type_url: str) -> None:
    proxy = SotwProxy({})
    assert proxy.ask(type_url, "a") == []

    [response] = proxy.change(type_url, {"a": "1"})

    assert sent(response) == {"a": "1"}


def test_sotw_missing_name_of_a_full_type_is_answered_by_its_absence() -> None:
    """GRPC then knows at once, and does not wait for a timeout."""
    proxy = SotwProxy({})
    [empty] = proxy.ask(LISTENER, "l")
    assert sent(empty) == {}
    assert proxy.ack(empty) == []

    [response] = proxy.change(LISTENER, {"l": "1"})
    assert sent(response) == {"l": "1"}


def test_sotw_dropped_name_is_not_sent_when_it_changes() -> None:
    proxy = SotwProxy({ROUTE: {"a": "1", "b": "1"}})
    [first] = proxy.ask(ROUTE, "a", "b")
    proxy.ask(ROUTE, "a", nonce=first.nonce)

    assert proxy.change(ROUTE, {"a": "1", "b": "2"}) == []


def test_sotw_dropping_a_name_that_the_wildcard_covers_needs_no_answer() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "1", "b": "1"}})
    [first] = proxy.ask(CLUSTER, "*", "a")

    assert proxy.ask(CLUSTER, "*", nonce=first.nonce) == []
    assert sent(proxy.change(CLUSTER, {"a": "2", "b": "1"})[0]) == {"a": "2", "b": "1"}


def test_sotw_several_requests_with_more_names_each_are_all_answered() -> None:
    proxy = SotwProxy({ROUTE: {"a": "1", "b": "1", "c": "1"}})
    [first] = proxy.ask(ROUTE, "a")
    assert proxy.ask(ROUTE, "a", "b") == proxy.ask(ROUTE, "a", "b", "c") == []

    [second] = proxy.ack(first)

    assert sent(second) == {"b": "1", "c": "1"}


def test_sotw_request_with_a_stale_nonce_is_ignored() -> None:
    proxy = SotwProxy({ROUTE: {"a": "1", "b": "1"}})
    [first] = proxy.ask(ROUTE, "a")
    [second] = proxy.ask(ROUTE, "a", "b", nonce=first.nonce)

    assert proxy.ask(ROUTE, "a", nonce=first.nonce, error="about an older one") == []
    assert proxy.refusals == []

    proxy.ask(ROUTE, "a", "b", nonce=second.nonce)
    [third] = proxy.change(ROUTE, {"a": "1", "b": "2"})
    assert sent(third) == {"b": "2"}, "the stale request did not drop it"


def test_sotw_answer_to_a_superseded_request_is_dropped() -> None:
    proxy = SotwProxy({ROUTE: {"a": "1", "b": "1"}})
    [first] = proxy.ask(ROUTE, "a")
    assert proxy.ask(ROUTE, "a", "b") == [], "the first response waits for its ACK"

    assert proxy.ask(ROUTE, "a", nonce=first.nonce) == []


def test_sotw_nonce_of_an_earlier_stream_means_nothing() -> None:
    [response] = SotwProxy({CLUSTER: {"a": "1"}}).ask(CLUSTER, nonce="other.1", version="old", error="refused there")

    assert sent(response) == {"a": "1"}


def test_sotw_ack_is_answered_with_nothing_until_a_change() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)

    assert proxy.ack(response) == []
    assert proxy.stream.is_quiet(proxy.state)
    assert len(proxy.change(CLUSTER, {"a": "2"})) == 1


def test_sotw_ack_of_one_type_is_none_of_another() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "1"}, ENDPOINT: {"a": "1"}})
    [clusters] = proxy.ask(CLUSTER)
    proxy.ask(ENDPOINT, "a")

    proxy.ask(ENDPOINT, "a", nonce=clusters.nonce)

    assert proxy.change(ENDPOINT, {"a": "2"}) == []


def test_sotw_nack_of_the_very_first_response_is_a_nack() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)

    assert proxy.nack(response, "bad\x1bcluster") == []

    [refusal] = proxy.refusals
    assert (refusal.type_url, [one.name for one in refusal.resources], refusal.error) == (CLUSTER, ["a"], "bad cluster")


def test_sotw_nack_may_change_the_subscription() -> None:
    proxy = SotwProxy({ROUTE: {"a": "1", "b": "1"}})
    [first] = proxy.ask(ROUTE, "a")

    [second] = proxy.ask(ROUTE, "b", nonce=first.nonce, error="bad route")

    assert sent(second) == {"b": "1"}


def test_sotw_version_changes_with_the_type_and_with_no_other() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "A"}, ENDPOINT: {"a": "1"}})
    [a] = proxy.ask(CLUSTER)
    [endpoints] = proxy.ask(ENDPOINT, "a")
    proxy.ack(endpoints)

    [b] = [one for one in proxy.ack(a) + proxy.change(CLUSTER, {"a": "B"}) if one.type_url == CLUSTER]
    [status] = [one for one in proxy.stream.types(proxy.state) if one.type_url == ENDPOINT]
    proxy.ack_all([b])
    [again] = [one for one in proxy.change(CLUSTER, {"a": "A"}) if one.type_url == CLUSTER]

    assert a.version == again.version != b.version
    assert a.nonce != again.nonce
    assert status.sent == endpoints.version


@pytest.mark.parametrize("client", [Proxy, SotwProxy])
def test_no_name_is_twice_in_a_response(client: type[Proxy | SotwProxy]) -> None:
    [response] = client({CLUSTER: {"a": "1", "b": "1"}}).ask(CLUSTER, "*", "a", "a", "b")

    assert [one.name for one in response.resources] == ["a", "b"]


def test_sotw_version_may_be_chosen_for_a_type() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "1"}})
    proxy.versions = {CLUSTER: "mine"}

    assert proxy.ask(CLUSTER)[0].version == "mine"


def test_sotw_client_that_comes_back_with_the_same_wildcard_state_is_sent_nothing() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)

    again = SotwProxy({CLUSTER: {"a": "1"}})
    assert again.ask(CLUSTER, version=response.version) == []
    assert again.stream.is_quiet(again.state)
    assert sent(again.change(CLUSTER, {"a": "2"})[0]) == {"a": "2"}


def test_sotw_client_that_comes_back_is_sent_what_it_names_or_what_has_changed() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)

    assert len(SotwProxy({CLUSTER: {"a": "1"}}).ask(CLUSTER, "a", version=response.version)) == 1
    assert len(SotwProxy({CLUSTER: {"a": "2"}}).ask(CLUSTER, version=response.version)) == 1


def test_sotw_endpoints_follow_their_changed_cluster() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "1"}, ENDPOINT: {"a": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER) + proxy.ask(ENDPOINT, "a"))

    clusters, endpoints = proxy.change(CLUSTER, {"a": "2"})

    assert (sent(clusters), sent(endpoints)) == ({"a": "2"}, {"a": "1"})


def test_sotw_old_clusters_stay_in_the_full_set_until_traffic_has_moved() -> None:
    proxy = SotwProxy({CLUSTER: {"old": "1"}, ROUTE: {"r": "to old"}})
    proxy.ack_all(proxy.ask(CLUSTER))
    proxy.ack_all(proxy.ask(ROUTE, "r"))
    proxy.contents[ROUTE] = {"r": "to new"}

    [both] = proxy.change(CLUSTER, {"new": "1"})
    assert sent(both) == {"new": "1", "old": "1"}
    [route] = proxy.ack(both)
    assert sent(route) == {"r": "to new"}
    [one] = proxy.ack(route)
    assert sent(one) == {"new": "1"}


def test_sotw_limits_hold_for_what_one_request_lists() -> None:
    with pytest.raises(LimitError, match="names"):
        SotwProxy({}).ask(ROUTE, *(str(number) for number in range(MAX_NAMES + 1)))


def test_stream_of_one_type_implies_it_and_refuses_another() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "1"}, ROUTE: {"r": "1"}})
    proxy.stream = SotwStream("stream", CLUSTER)
    proxy.listed[CLUSTER] = ()

    [response] = proxy.ask("")
    assert response.type_url == CLUSTER
    proxy.ack(response)
    assert proxy.stream.is_quiet(proxy.state), "routes are none of its business"
    with pytest.raises(ProtocolError, match="the stream about"):
        proxy.ask(ROUTE, "r")
