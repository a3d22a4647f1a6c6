"""A refused response is taken apart: its good resources arrive, the bad ones are found, and it ends."""

import pytest

from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from mesh.xds.messages import Response
from tests.unit.xds.proxy import Proxy, SotwProxy, sent

GOOD = dict.fromkeys("abcdefgh", "1")
Client = Proxy | SotwProxy
VARIANTS = pytest.mark.parametrize("client", [Proxy, SotwProxy], ids=["delta", "sotw"])


def refused(client: Client, type_url: str) -> dict[str, tuple[str, str]]:
    """Name -> version that was refused, and the last good one."""
    [status] = [one for one in client.stream.types(client.state) if one.type_url == type_url]
    return {one.name: (one.version, one.last_good) for one in status.refused}


def contents(responses: list[Response]) -> list[dict[str, str]]:
    return [sent(response) for response in responses]


@VARIANTS
@pytest.mark.parametrize("type_url", [ROUTE, ENDPOINT, CLUSTER, LISTENER])
def test_good_resources_of_a_refused_response_arrive(client: type[Client], type_url: str) -> None:
    proxy = client({type_url: {**GOOD, "e": "bad"}})

    responses = proxy.answer_all(proxy.ask(type_url, *GOOD), bad=["bad"])

    accepted = [response for response in responses if "bad" not in sent(response).values()]
    arrived = {name for response in accepted for name in sent(response)}
    assert arrived == GOOD.keys() - {"e"}
    assert refused(proxy, type_url) == {"e": ("bad", "")}
    assert len(responses) <= 1 + 2 * 3 + 1
    assert proxy.responses() == []
    assert proxy.stream.is_quiet(proxy.state)


@VARIANTS
def test_all_bad_resources_are_found_in_finitely_many_responses(client: type[Client]) -> None:
    proxy = client({ROUTE: dict.fromkeys(GOOD, "bad")})

    responses = proxy.answer_all(proxy.ask(ROUTE, *GOOD), bad=["bad"])

    assert len(responses) == 2 * len(GOOD) - 1
    assert refused(proxy, ROUTE).keys() == GOOD.keys()


@VARIANTS
def test_what_was_refused_alone_is_not_sent_again_until_it_changes(client: type[Client]) -> None:
    proxy = client({ROUTE: {"a": "bad", "b": "1"}})
    proxy.answer_all(proxy.ask(ROUTE, "a", "b"), bad=["bad"])

    [others] = proxy.change(ROUTE, {"a": "bad", "b": "2"})
    assert sent(others) == {"b": "2"}
    assert proxy.ack(others) == []

    [mended] = proxy.change(ROUTE, {"a": "good", "b": "2"})
    assert sent(mended) == {"a": "good"}
    proxy.ack(mended)
    assert refused(proxy, ROUTE) == {}


@VARIANTS
def test_the_last_good_version_of_what_was_refused_is_known(client: type[Client]) -> None:
    proxy = client({CLUSTER: {"a": "good", "b": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER))

    proxy.answer_all(proxy.change(CLUSTER, {"a": "bad", "b": "2"}), bad=["bad"])

    assert refused(proxy, CLUSTER) == {"a": ("bad", "good")}
    assert proxy.refusals[-1].good == {"a": "good"}


def test_sotw_full_set_has_what_was_refused_as_its_last_good_version() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "good", "b": "1", "c": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER))

    responses = proxy.answer_all(proxy.change(CLUSTER, {"a": "bad", "b": "2", "c": "1"}), bad=["bad"])

    assert contents(responses) == [
        {"a": "bad", "b": "2", "c": "1"},
        {"a": "bad", "b": "1", "c": "1"},
        {"a": "good", "b": "2", "c": "1"},
    ]
    [later] = proxy.change(CLUSTER, {"a": "bad", "b": "2", "c": "2"})
    assert sent(later) == {"a": "good", "b": "2", "c": "2"}


def test_sotw_full_set_lacks_what_was_refused_and_was_never_good() -> None:
    proxy = SotwProxy({LISTENER: {"a": "bad", "b": "1"}})

    responses = proxy.answer_all(proxy.ask(LISTENER), bad=["bad"])

    assert contents(responses) == [{"a": "bad", "b": "1"}, {"a": "bad"}, {"b": "1"}]


def test_sotw_refusal_of_a_set_without_news_is_not_repeated() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "1", "b": "1"}})
    proxy.ack_all(proxy.ask(CLUSTER))
    [removal] = proxy.change(CLUSTER, {"a": "1"})

    assert proxy.nack(removal) == []


def test_a_version_that_was_chosen_is_not_given_to_a_part_of_the_state() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "bad", "b": "1"}})
    proxy.versions = {CLUSTER: "mine"}

    first, *parts = proxy.answer_all(proxy.ask(CLUSTER), bad=["bad"])

    assert first.version == "mine"
    assert "mine" not in {part.version for part in parts}


def test_what_changes_while_it_is_on_trial_is_tried_as_it_is_then() -> None:
    proxy = Proxy({ROUTE: GOOD})
    [whole] = proxy.ask(ROUTE, *GOOD)
    [half] = proxy.nack(whole)
    assert [*sent(half)] == ["a", "b", "c", "d"]
    proxy.contents[ROUTE] = {**GOOD, "e": "2"}

    first, second = proxy.ack_all(proxy.ack(half))

    assert sent(first) == {"e": "2"}
    assert [*sent(second)] == ["f", "g", "h"]


def test_what_is_dropped_while_it_is_on_trial_is_not_tried() -> None:
    proxy = Proxy({ROUTE: {"a": "1", "b": "1"}})
    [both] = proxy.ask(ROUTE, "a", "b")
    [first] = proxy.nack(both)

    assert sent(first) == {"a": "1"}
    assert proxy.ask(ROUTE, drop=["b"], nonce=first.nonce) == []


def test_the_version_that_was_refused_is_said_as_long_as_nothing_else_is_refused() -> None:
    proxy = Proxy({CLUSTER: {"a": "bad"}})
    [response] = proxy.ask(CLUSTER)
    proxy.nack(response)

    [status] = proxy.stream.types(proxy.state)
    assert (status.nacked, status.acked, status.error) == (response.version, "", "no")


@pytest.mark.parametrize("names", [pytest.param((), id="wildcard"), pytest.param(("a",), id="by name")])
def test_what_was_removed_has_no_last_good_version(names: tuple[str, ...]) -> None:
    proxy = Proxy({CLUSTER: {"a": "good"}})
    proxy.ack_all(proxy.ask(CLUSTER, *names))
    proxy.ack_all(proxy.change(CLUSTER, {}))

    proxy.answer_all(proxy.change(CLUSTER, {"a": "bad"}), bad=["bad"])

    assert refused(proxy, CLUSTER) == {"a": ("bad", "")}


def test_what_was_dropped_before_it_was_accepted_has_no_last_good_version() -> None:
    proxy = Proxy({ROUTE: {"a": "good"}})
    [response] = proxy.ask(ROUTE, "a")
    proxy.ask(ROUTE, drop=["a"])
    proxy.ack(response)
    proxy.contents[ROUTE] = {"a": "bad"}

    proxy.answer_all(proxy.ask(ROUTE, "a"), bad=["bad"])

    assert refused(proxy, ROUTE) == {"a": ("bad", "")}


def test_sotw_client_goes_on_with_what_is_gone_and_could_not_be_said_so() -> None:
    """It goes in the moment in which it is owed, because its cluster was sent."""
    proxy = SotwProxy({CLUSTER: {"a": "1"}, ENDPOINT: {"a": "good"}})
    proxy.ack_all(proxy.ask(CLUSTER))
    proxy.ack_all(proxy.ask(ENDPOINT, "a"))
    proxy.contents[CLUSTER] = {"a": "2"}
    cluster = proxy.stream.next_response(proxy.state, proxy.now)
    assert cluster
    assert proxy.change(ENDPOINT, {}) == []
    proxy.ack(cluster)

    proxy.answer_all(proxy.change(ENDPOINT, {"a": "bad"}), bad=["bad"])

    assert refused(proxy, ENDPOINT) == {"a": ("bad", "good")}
