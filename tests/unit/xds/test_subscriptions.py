"""What a stream is told about: wildcards, names, and what it brings from an earlier stream."""

import pytest

from mesh.snapshot.types import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, RUNTIME, SECRET
from tests.unit.xds.proxy import Proxy, removed, sent

UNKNOWN = "type.googleapis.com/some.other.Type"
WILDCARD_TYPES = pytest.mark.parametrize("type_url", [CLUSTER, LISTENER], ids=["cluster", "listener"])
NAMED_TYPES = pytest.mark.parametrize("type_url", [ENDPOINT, ROUTE, SECRET, RUNTIME, EXTENSION, UNKNOWN])


@WILDCARD_TYPES
def test_a_first_request_without_names_asks_for_everything(type_url: str) -> None:
    proxy = Proxy({type_url: {"a": "1", "b": "1"}})

    [response] = proxy.ask(type_url)

    assert sent(response) == {"a": "1", "b": "1"}


@WILDCARD_TYPES
def test_a_star_asks_for_everything(type_url: str) -> None:
    proxy = Proxy({type_url: {"a": "1", "b": "1"}})

    [response] = proxy.ask(type_url, "*")

    assert sent(response) == {"a": "1", "b": "1"}


@WILDCARD_TYPES
def test_a_wildcard_is_answered_although_there_is_nothing(type_url: str) -> None:
    """Or the client would wait for its first configuration for ever."""
    [response] = Proxy({}).ask(type_url)

    assert sent(response) == {}
    assert removed(response) == ()


@WILDCARD_TYPES
def test_a_first_request_with_a_name_is_no_wildcard(type_url: str) -> None:
    proxy = Proxy({type_url: {"a": "1", "b": "1"}})

    [response] = proxy.ask(type_url, "a")

    assert sent(response) == {"a": "1"}


@NAMED_TYPES
def test_a_request_without_names_asks_for_nothing_of_other_types(type_url: str) -> None:
    proxy = Proxy({type_url: {"a": "1"}})

    assert proxy.ask(type_url) == []
    assert proxy.change(type_url, {"a": "2"}) == []


@NAMED_TYPES
def test_named_resources_of_any_type_are_sent(type_url: str) -> None:
    proxy = Proxy({type_url: {"a": "1", "b": "1", "c": "1"}})

    [response] = proxy.ask(type_url, "a", "b")

    assert sent(response) == {"a": "1", "b": "1"}
    assert response.type_url == type_url


@NAMED_TYPES
def test_a_star_is_a_name_like_any_other_for_other_types(type_url: str) -> None:
    [response] = Proxy({type_url: {"a": "1"}}).ask(type_url, "*")

    assert sent(response) == {}
    assert removed(response) == ("*",)


def test_names_that_differ_by_case_or_escapes_are_different_names() -> None:
    [response] = Proxy({ROUTE: {"a/b": "1"}}).ask(ROUTE, "A/b", "a%2Fb", "a/b")

    assert sent(response) == {"a/b": "1"}
    assert removed(response) == ("A/b", "a%2Fb")


def test_a_name_beside_the_wildcard_keeps_the_wildcard() -> None:
    proxy = Proxy({CLUSTER: {"a": "1", "b": "1"}})
    [first] = proxy.ask(CLUSTER)
    [second] = proxy.ask(CLUSTER, "a", nonce=first.nonce)
    assert sent(second) == {"a": "1"}
    proxy.ack(second)

    [third] = proxy.change(CLUSTER, {"a": "1", "b": "2"})

    assert sent(third) == {"b": "2"}


def test_dropping_the_wildcard_keeps_what_was_named() -> None:
    proxy = Proxy({CLUSTER: {"a": "1", "b": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER, "*", "a"))

    assert proxy.ask(CLUSTER, drop=["*"]) == []

    [response] = proxy.change(CLUSTER, {"a": "2", "b": "2"})
    assert sent(response) == {"a": "2"}


def test_dropping_the_last_name_leaves_nothing_and_not_the_wildcard() -> None:
    proxy = Proxy({CLUSTER: {"a": "1", "b": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER, "*", "a"))

    assert proxy.ask(CLUSTER, drop=["*"]) == []
    assert proxy.ask(CLUSTER, drop=["a"]) == []
    assert proxy.ask(CLUSTER) == []
    assert proxy.change(CLUSTER, {"a": "2", "b": "2"}) == []


def test_a_wildcard_asked_for_again_is_answered_with_everything() -> None:
    proxy = Proxy({CLUSTER: {"a": "1", "b": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER))

    [response] = proxy.ask(CLUSTER, "*")

    assert sent(response) == {"a": "1", "b": "1"}


def test_a_wildcard_dropped_before_it_was_answered_is_not_answered() -> None:
    assert Proxy({CLUSTER: {"a": "1"}}).ask(CLUSTER, drop=["*"]) == []


def test_a_wildcard_beside_a_name_that_is_missing_says_so() -> None:
    [response] = Proxy({CLUSTER: {"a": "1"}}).ask(CLUSTER, "*", "ghost")

    assert sent(response) == {"a": "1"}
    assert removed(response) == ("ghost",)


def test_what_the_client_brings_is_not_sent_again() -> None:
    proxy = Proxy({CLUSTER: {"a": "1", "b": "2", "c": "1"}})

    [response] = proxy.ask(CLUSTER, held={"a": "1", "b": "1"})

    assert sent(response) == {"b": "2", "c": "1"}


def test_a_client_that_brings_everything_is_told_nothing() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}, ENDPOINT: {"a": "1"}, LISTENER: {"l": "1"}, ROUTE: {"r": "1"}})

    assert proxy.ask(CLUSTER, held={"a": "1"}) == []
    assert proxy.ask(ENDPOINT, "a", held={"a": "1"}) == []
    assert proxy.ask(LISTENER, held={"l": "1"}) == []
    assert proxy.ask(ROUTE, "r", held={"r": "1"}) == []


def test_what_the_client_brings_and_is_gone_is_removed() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})

    [response] = proxy.ask(CLUSTER, held={"a": "1", "ghost": "1"})

    assert sent(response) == {}
    assert removed(response) == ("ghost",)


def test_what_the_client_brings_without_asking_for_it_subscribes_to_nothing() -> None:
    proxy = Proxy({ROUTE: {"a": "2", "b": "2"}})

    [response] = proxy.ask(ROUTE, "a", held={"a": "1", "b": "1", "ghost": "1"})

    assert sent(response) == {"a": "2"}
    assert removed(response) == ()


def test_versions_in_a_later_request_mean_nothing() -> None:
    proxy = Proxy({ROUTE: {"a": "1"}})
    proxy.ask(ROUTE)

    [response] = proxy.ask(ROUTE, "a", held={"a": "1"})

    assert sent(response) == {"a": "1"}


def test_a_name_in_a_later_request_is_answered_even_if_it_is_current() -> None:
    """The client may have forgotten it."""
    proxy = Proxy({ROUTE: {"a": "1"}})
    proxy.ack_all(proxy.ask(ROUTE, "a"))

    [response] = proxy.ask(ROUTE, "a")

    assert sent(response) == {"a": "1"}


def test_a_name_that_is_dropped_and_named_again_is_sent_again() -> None:
    proxy = Proxy({ROUTE: {"a": "1", "b": "1"}})
    proxy.ack_all(proxy.ask(ROUTE, "a", "b"))
    assert proxy.ask(ROUTE, drop=["b"]) == []

    [response] = proxy.ask(ROUTE, "b")

    assert sent(response) == {"b": "1"}


def test_several_requests_with_more_names_each_are_all_answered() -> None:
    proxy = Proxy({ROUTE: {"a": "1", "b": "1", "c": "1"}})
    [first] = proxy.ask(ROUTE, "a")
    assert proxy.ask(ROUTE, "b") == proxy.ask(ROUTE, "c") == []

    [second] = proxy.ack(first)

    assert sent(first) == {"a": "1"}
    assert sent(second) == {"b": "1", "c": "1"}


def test_a_missing_name_is_answered_at_once_and_sent_when_it_appears() -> None:
    proxy = Proxy({})
    [missing] = proxy.ask(ENDPOINT, "a")
    assert removed(missing) == ("a",)
    assert proxy.ack(missing) == []

    [response] = proxy.change(ENDPOINT, {"a": "1"})

    assert sent(response) == {"a": "1"}


def test_a_missing_name_that_is_named_again_is_answered_again() -> None:
    proxy = Proxy({})
    proxy.ack_all(proxy.ask(ENDPOINT, "a"))

    [response] = proxy.ask(ENDPOINT, "a")

    assert removed(response) == ("a",)


@pytest.mark.parametrize("names", [pytest.param((), id="wildcard"), pytest.param(("a",), id="by name")])
def test_a_deletion_is_told_once_and_a_new_creation_is_sent(names: tuple[str, ...]) -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER, *names))

    [deletion] = proxy.change(CLUSTER, {})
    assert removed(deletion) == ("a",)
    assert proxy.ack(deletion) == []

    [creation] = proxy.change(CLUSTER, {"a": "1"})
    assert sent(creation) == {"a": "1"}


def test_a_dropped_name_is_not_sent_when_it_changes() -> None:
    proxy = Proxy({ROUTE: {"a": "1", "b": "1"}})
    proxy.ack_all(proxy.ask(ROUTE, "a", "b"))
    proxy.ask(ROUTE, drop=["b"])

    [response] = proxy.change(ROUTE, {"a": "2", "b": "2"})

    assert sent(response) == {"a": "2"}


def test_dropping_what_was_never_named_is_ignored() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}, ROUTE: {"a": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER) + proxy.ask(ROUTE, "a"))

    assert proxy.ask(CLUSTER, drop=["a", "ghost"]) == []
    assert proxy.ask(ROUTE, drop=["ghost"]) == []


def test_dropping_a_name_that_the_wildcard_covers_is_answered_with_the_resource() -> None:
    proxy = Proxy({CLUSTER: {"a": "1", "b": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER, "*", "a"))

    [response] = proxy.ask(CLUSTER, drop=["a"])

    assert sent(response) == {"a": "1"}


def test_dropping_a_name_that_the_wildcard_does_not_cover_is_answered_with_a_removal() -> None:
    proxy = Proxy({CLUSTER: {"b": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER, "*", "a"))

    [response] = proxy.ask(CLUSTER, drop=["a"])
    assert removed(response) == ("a",)
    proxy.ack(response)

    [creation] = proxy.change(CLUSTER, {"a": "1", "b": "1"})
    assert sent(creation) == {"a": "1"}


def test_a_name_subscribed_and_unsubscribed_in_one_request_ends_unsubscribed() -> None:
    proxy = Proxy({ROUTE: {"a": "1"}})
    proxy.ask(ROUTE)

    assert proxy.ask(ROUTE, "a", drop=["a"]) == []
    assert Proxy({ROUTE: {"a": "1"}}).ask(ROUTE, "a", drop=["a"]) == []


def test_an_unchanged_resource_is_not_sent_when_another_changes() -> None:
    proxy = Proxy({CLUSTER: {"a": "1", "b": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER))

    [response] = proxy.change(CLUSTER, {"a": "2", "b": "1"})

    assert sent(response) == {"a": "2"}


def test_absence_from_a_response_deletes_nothing() -> None:
    proxy = Proxy({CLUSTER: {"a": "1", "b": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER))

    [response] = proxy.change(CLUSTER, {"a": "2", "b": "1"})

    assert removed(response) == ()


def test_nothing_is_sent_when_nothing_has_changed() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER))

    assert proxy.change(CLUSTER, {"a": "1"}) == []


def test_what_is_on_its_way_when_the_wildcard_is_dropped_and_asked_for_again_is_answered_for() -> None:
    """It arrives under the new wildcard, and would stay for ever if it were gone by then."""
    proxy = Proxy({CLUSTER: {"a": "1"}})
    [first] = proxy.ask(CLUSTER)
    proxy.ask(CLUSTER, drop=["*"])
    proxy.ask(CLUSTER, "*")
    proxy.change(CLUSTER, {})

    [second] = proxy.ack(first)

    assert removed(second) == ("a",)
