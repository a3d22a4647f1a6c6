"""Versions of whole responses, and nonces."""

from typing import Any

import pytest

from mesh.snapshot.types import CLUSTER, LISTENER, ROUTE
from tests.xds.conformance.client import VARIANTS, Client, Connection, Variant, contents
from tests.xds.raw import Raw

every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)
every_type = pytest.mark.parametrize("type_url", [CLUSTER, ROUTE], ids=["clusters", "routes"])


def version_of(response: Any) -> str:
    version: str = getattr(response, "version_info", "") or getattr(response, "system_version_info", "")
    return version


async def versions_of(client: Client, count: int) -> list[str]:
    await client.has_heard(count)
    return [version_of(response) for response in client.responses]


@every_variant
@every_type
async def test_versions_are_those_of_whoever_sets_them(raw: Raw, variant: Variant, type_url: str) -> None:
    await raw.put(type_url, {"a": "v1"}, version="first")
    async with Connection(raw.xds, variant, type_url) as connection:
        client = connection.client(type_url)
        await client.ask("a")
        await client.has_heard(1)
        await raw.put(type_url, {"a": "v2"}, version="second")
        await client.has_heard(2)
        await raw.put(type_url, {"a": "v3"})

        first, second, third = await versions_of(client, 3)
        assert (first, second) == ("first", "second")
        assert third not in ("", "first", "second"), "a digest where nothing was chosen"


@every_variant
@every_type
async def test_a_version_says_what_there_is_and_changes_with_it(raw: Raw, variant: Variant, type_url: str) -> None:
    await raw.put(type_url, {"a": "1", "b": "1"})
    async with Connection(raw.xds, variant, type_url) as connection:
        client = connection.client(type_url)
        await client.ask("a", "b")
        await client.has_heard(1)
        for number, content in enumerate(("2", "1", "2"), 2):
            await raw.put(type_url, {"a": content})
            await client.has_heard(number)

        one, two, three, four = await versions_of(client, 4)
        assert one != two
        assert (one, two) == (three, four), "equal content has an equal version"


@every_variant
async def test_a_nonce_of_an_older_response_is_no_answer(raw: Raw, variant: Variant) -> None:
    """Subscriptions in such a request count in delta, and not in the state-of-the-world variant."""
    await raw.put(ROUTE, {"a": "1", "b": "1"})
    async with Connection(raw.xds, variant, ROUTE) as connection:
        client = connection.client(ROUTE)
        await client.ask("a")
        await client.has_heard(1)
        old = client.responses[0].nonce
        await raw.put(ROUTE, {"a": "2"})
        await client.has_heard(2)

        await client.acknowledge(old, error="too late")
        await client.ask("a", "b", nonce=old)
        if variant.delta:
            await client.has_heard(3)
            assert client.held == {"a": "2", "b": "1"}
        await raw.put(ROUTE, {"a": "3"})
        if variant.delta:
            await client.has_heard(4)
            assert client.held == {"a": "3", "b": "1"}
        else:
            # Its ACK names `b` with a nonce that counts, which may have been answered by now.
            await client.has_heard(3)
            assert contents(client.responses[2].resources, ROUTE) == {"a": "3"}


@every_variant
async def test_a_nonce_of_another_stream_does_no_harm(raw: Raw, variant: Variant) -> None:
    await raw.put(CLUSTER, {"a": "1"})
    async with Connection(raw.xds, variant, CLUSTER) as before, Connection(raw.xds, variant, CLUSTER) as now:
        old, client = before.client(CLUSTER), now.client(CLUSTER)
        await old.ask("a")
        await old.has_heard(1)

        await client.ask("a", nonce=old.responses[0].nonce)
        await client.has_heard(1)
        await client.acknowledge(old.responses[0].nonce, error="not about this stream")
        await raw.put(CLUSTER, {"a": "2"})
        await client.has_heard(2)
        await old.has_heard(2)

        assert client.held == old.held == {"a": "2"}
        assert not {one.nonce for one in client.responses} & {one.nonce for one in old.responses}


@every_variant
@every_type
async def test_a_client_that_comes_back_is_up_to_date_at_once(raw: Raw, variant: Variant, type_url: str) -> None:
    """In delta without a word; a state-of-the-world client may be told again what it has."""
    await raw.put(type_url, {"a": "1", "b": "1"})
    async with Connection(raw.xds, variant, type_url) as connection:
        client = connection.client(type_url)
        await client.ask("a", "b")
        await client.has_heard(1)

    await raw.put(type_url, {"a": "2"})
    async with Connection(raw.xds, variant, type_url) as connection:
        again = connection.client(type_url)
        again.bring(client)
        await again.ask("a", "b")
        await again.has_heard(1)

        assert again.held == {"a": "2", "b": "1"}
        if variant.delta:
            assert [one.name for one in again.responses[0].resources] == ["a"]


@pytest.mark.parametrize("variant", [one for one in VARIANTS if one.aggregated], ids=str)
async def test_types_on_one_stream_know_nothing_of_each_other(raw: Raw, variant: Variant) -> None:
    await raw.put(CLUSTER, {"a": "1"})
    await raw.put(LISTENER, {"a": "1"})
    async with Connection(raw.xds, variant, "") as connection:
        clusters, listeners = connection.client(CLUSTER), connection.client(LISTENER)
        for client in (clusters, listeners):
            await client.ask("a")
            await client.has_heard(1)

        # What is refused of one type says nothing about another.
        clusters.refuse = "not like that"
        await raw.put(CLUSTER, {"a": "2"})
        await clusters.has_heard(2)
        await raw.put(LISTENER, {"a": "2"})
        await listeners.has_heard(2)
        await listeners.ask("a", "b")
        await raw.put(CLUSTER, {"a": "3"})
        await clusters.has_heard(3)

        assert (clusters.held, listeners.held) == ({"a": "3"}, {"a": "2"})
        assert len({one.nonce for one in [*clusters.responses, *listeners.responses]}) == len(
            [*clusters.responses, *listeners.responses]
        )


@every_variant
async def test_two_streams_of_one_node_are_both_served(raw: Raw, variant: Variant) -> None:
    await raw.put(CLUSTER, {"a": "1"})
    async with Connection(raw.xds, variant, CLUSTER) as old, Connection(raw.xds, variant, CLUSTER) as new:
        clients = [old.client(CLUSTER), new.client(CLUSTER)]
        for client in clients:
            await client.ask()
            await client.has_heard(1)
        await raw.put(CLUSTER, {"a": "2"})
        for client in clients:
            await client.has_heard(2)

        assert [client.held for client in clients] == [{"a": "2"}, {"a": "2"}]
