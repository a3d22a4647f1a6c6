"""ACK and NACK: what a nonce means, and what follows from a refusal."""

from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.unit.xds.proxy import Proxy, a_state, removed, sent


def test_every_response_has_a_nonce_of_its_own() -> None:
    proxy = Proxy({CLUSTER: {"a": "A"}, LISTENER: {"l": "1"}})
    responses = proxy.ack_all(proxy.ask(CLUSTER) + proxy.ask(LISTENER))
    for content in ("B", "A", "B", "A"):
        responses += proxy.ack_all(proxy.change(CLUSTER, {"a": content}))

    assert len({response.nonce for response in responses}) == len(responses) == 6


def test_a_nonce_of_an_earlier_stream_means_nothing() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})

    [response] = proxy.ask(CLUSTER, nonce="other.1", error="refused there")

    assert sent(response) == {"a": "1"}
    assert proxy.refusals == []


def test_an_ack_is_answered_with_nothing() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)

    assert proxy.ack(response) == []
    assert proxy.stream.is_quiet(a_state(proxy.contents))


def test_at_most_one_response_of_a_type_waits_for_its_ack() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})
    [first] = proxy.ask(CLUSTER)
    for content in ("2", "3", "4"):
        assert proxy.change(CLUSTER, {"a": content, "b": content}) == []

    [second] = proxy.ack(first)

    assert sent(second) == {"a": "4", "b": "4"}


def test_types_do_not_wait_for_each_other_within_a_stage() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}, ENDPOINT: {"a": "1"}})
    proxy.ask(CLUSTER)

    [response] = proxy.ask(ENDPOINT, "a")

    assert response.type_url == ENDPOINT


def test_the_ack_of_one_type_is_none_of_another() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}, ENDPOINT: {"a": "1"}})
    [clusters] = proxy.ask(CLUSTER)
    [endpoints] = proxy.ask(ENDPOINT, "a")

    proxy.ask(ENDPOINT, nonce=clusters.nonce)

    assert proxy.change(ENDPOINT, {"a": "2"}) == []
    assert sent(proxy.ack(endpoints)[0]) == {"a": "2"}


def test_a_stale_nonce_acknowledges_nothing_but_its_subscriptions_count() -> None:
    proxy = Proxy({ROUTE: {"a": "1", "b": "1"}})
    [first] = proxy.ask(ROUTE, "a")
    assert proxy.ask(ROUTE, "b", nonce="stale", error="about an older one") == []
    assert proxy.refusals == []

    [second] = proxy.ack(first)
    assert sent(second) == {"b": "1"}
    assert proxy.ask(ROUTE, "a", nonce=first.nonce) == []
    assert sent(proxy.ack(second)[0]) == {"a": "1"}


def test_an_ack_may_change_the_subscription() -> None:
    proxy = Proxy({ROUTE: {"a": "1", "b": "1"}})
    [first] = proxy.ask(ROUTE, "a")

    [second] = proxy.ask(ROUTE, "b", drop=["a"], nonce=first.nonce)

    assert sent(second) == {"b": "1"}
    proxy.ack(second)
    assert proxy.change(ROUTE, {"a": "2", "b": "1"}) == []


def test_a_nack_may_change_the_subscription() -> None:
    proxy = Proxy({ROUTE: {"a": "1", "b": "1"}})
    [first] = proxy.ask(ROUTE, "a")

    [second] = proxy.ask(ROUTE, "b", nonce=first.nonce, error="bad route")

    assert sent(second) == {"b": "1"}
    assert [refusal.error for refusal in proxy.refusals] == ["bad route"]


def test_a_nack_of_the_very_first_response_is_a_nack() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)

    assert proxy.nack(response, "bad cluster") == []

    [refusal] = proxy.refusals
    assert (refusal.type_url, [one.name for one in refusal.resources], refusal.error) == (CLUSTER, ["a"], "bad cluster")


def test_an_error_without_words_is_a_nack() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)

    proxy.nack(response, "")

    assert len(proxy.refusals) == 1


def test_what_was_refused_is_not_sent_again_until_it_changes() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)
    assert proxy.nack(response) == []

    [others] = proxy.change(CLUSTER, {"a": "1", "b": "2"})
    assert sent(others) == {"b": "2"}
    assert proxy.ack(others) == []

    [changed] = proxy.change(CLUSTER, {"a": "2", "b": "2"})
    assert sent(changed) == {"a": "2"}


def test_what_was_refused_is_sent_again_to_a_client_that_asks_for_it() -> None:
    proxy = Proxy({ROUTE: {"a": "1"}})
    [response] = proxy.ask(ROUTE, "a")
    proxy.nack(response)

    assert sent(proxy.ask(ROUTE, "a")[0]) == {"a": "1"}


def test_a_change_back_after_a_refusal_is_sent() -> None:
    """A client may have applied a part of what it refused."""
    proxy = Proxy({CLUSTER: {"a": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER))
    [response] = proxy.change(CLUSTER, {"a": "2"})
    proxy.nack(response)

    assert sent(proxy.change(CLUSTER, {"a": "1"})[0]) == {"a": "1"}


def test_a_refused_resource_that_was_deleted_is_removed() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)
    proxy.nack(response)

    assert removed(proxy.change(CLUSTER, {})[0]) == ("a",)


def test_the_status_of_a_type_says_what_was_sent_and_what_was_acknowledged() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)
    [status] = proxy.stream.types(a_state(proxy.contents))
    assert (status.sent, status.acked, status.resources) == (response.version, "", 1)

    proxy.ack(response)

    [status] = proxy.stream.types(a_state(proxy.contents))
    assert status.sent == status.acked == response.version


def test_what_a_client_brings_counts_as_sent_and_acknowledged() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)

    again = Proxy({CLUSTER: {"a": "1"}})
    again.ask(CLUSTER, held={"a": "1"})

    [status] = again.stream.types(a_state(again.contents))
    assert status.sent == status.acked == response.version


def test_the_version_of_a_response_says_all_that_the_client_then_has() -> None:
    one, other = Proxy({CLUSTER: {"a": "1", "b": "1"}}), Proxy({CLUSTER: {"a": "1"}})
    [all_at_once] = one.ask(CLUSTER)
    other.ack_all(other.ask(CLUSTER))

    [one_by_one] = other.change(CLUSTER, {"a": "1", "b": "1"})

    assert one_by_one.version == all_at_once.version


def test_an_error_is_shown_as_long_as_the_refusal_stands() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)
    proxy.nack(response, "bad cluster")
    assert [status.error for status in proxy.stream.types(a_state(proxy.contents))] == ["bad cluster"]

    proxy.change(CLUSTER, {"a": "2"})

    assert [status.error for status in proxy.stream.types(a_state(proxy.contents))] == [""]


def test_removals_that_were_refused_along_with_resources_are_told_alone() -> None:
    proxy = Proxy({ROUTE: {"a": "1"}})
    [both] = proxy.ask(ROUTE, "a", "ghost")
    assert removed(both) == ("ghost",)

    [alone] = proxy.nack(both)
    assert sent(alone) == {}
    assert removed(alone) == ("ghost",)

    assert proxy.nack(alone) == []
