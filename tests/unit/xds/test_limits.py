"""What one stream may not ask for."""

import pytest

from mesh.errors import LimitError, ProtocolError
from mesh.snapshot.types import CLUSTER, ROUTE
from mesh.xds.stages import MAX_ERROR, MAX_NAME, MAX_NAMES, MAX_TYPES
from tests.unit.xds.proxy import Proxy, SotwProxy

AS_MANY_AS_ALLOWED = [f"name {number}" for number in range(MAX_NAMES)]


def test_a_request_without_a_type_is_refused() -> None:
    with pytest.raises(ProtocolError, match="type_url"):
        Proxy({}).ask("", "a")


def test_too_many_types_are_refused() -> None:
    proxy = Proxy({})
    for number in range(MAX_TYPES):
        proxy.ask(f"type {number}")

    with pytest.raises(LimitError, match="types"):
        proxy.ask("one more")


def test_too_many_names_in_a_first_request_are_refused() -> None:
    with pytest.raises(LimitError, match="names"):
        Proxy({}).ask(ROUTE, *AS_MANY_AS_ALLOWED, "one more")


def test_too_many_names_in_later_requests_and_over_all_types_are_refused() -> None:
    proxy = Proxy({})
    proxy.ask(ROUTE, *AS_MANY_AS_ALLOWED[:-1])
    proxy.ask(CLUSTER, "last")

    with pytest.raises(LimitError, match="names"):
        proxy.ask(CLUSTER, "one more")


def test_too_many_versions_are_refused() -> None:
    with pytest.raises(LimitError):
        Proxy({}).ask(CLUSTER, held=dict.fromkeys([*AS_MANY_AS_ALLOWED, "one more"], "1"))


@pytest.mark.parametrize("client", [Proxy, SotwProxy], ids=["delta", "sotw"])
def test_names_and_types_that_are_too_long_are_refused(client: type[Proxy | SotwProxy]) -> None:
    longest = "x" * MAX_NAME
    proxy = client({})
    proxy.ask(ROUTE, longest)

    for ask in (lambda: client({}).ask(ROUTE, longest + "x"), lambda: proxy.ask(ROUTE, longest + "x")):
        with pytest.raises(LimitError, match="a name or version has more than"):
            ask()
    with pytest.raises(LimitError):
        client({}).ask(longest + "x", "a")


def test_versions_that_are_too_long_are_refused() -> None:
    with pytest.raises(LimitError):
        Proxy({}).ask(CLUSTER, held={"a": "1" * (MAX_NAME + 1)})


def test_names_that_were_dropped_do_not_count() -> None:
    proxy = Proxy({})
    for _ in range(3):
        proxy.ask(ROUTE, *AS_MANY_AS_ALLOWED, drop=AS_MANY_AS_ALLOWED)

    [response] = proxy.ask(ROUTE, *AS_MANY_AS_ALLOWED)

    assert len(response.removed) == MAX_NAMES


def test_sotw_names_beside_the_wildcard_that_were_dropped_leave_nothing_behind() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER, "*")

    for name in ("x", "y", "z"):
        [response] = proxy.ask(CLUSTER, "*", name, nonce=response.nonce)
    proxy.ask(CLUSTER, "*", nonce=response.nonce)

    assert [one.name for one in proxy.stream.resources()] == ["a"]


def test_sotw_names_that_were_dropped_before_they_were_answered_count() -> None:
    proxy = SotwProxy({CLUSTER: {"a": "1"}})
    proxy.ask(CLUSTER, "*")
    proxy.ask(CLUSTER, "*", *AS_MANY_AS_ALLOWED[1:])

    with pytest.raises(LimitError, match="names"):
        proxy.ask(CLUSTER, "*", "one more", "another")


def test_the_words_of_a_refusal_are_cut() -> None:
    proxy = Proxy({CLUSTER: {"a": "1"}})
    [response] = proxy.ask(CLUSTER)

    proxy.nack(response, "x" * 100_000)

    assert len(proxy.refusals[0].error) == MAX_ERROR
