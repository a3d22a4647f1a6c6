"""Every scenario in all four variants, for every type at once: each has a client and a node of its own."""

import asyncio
from collections.abc import Mapping

import pytest

from mesh.snapshot.types import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, RUNTIME, SECRET
from tests.xds.conformance.client import VARIANTS, Connection, Variant
from tests.xds.conformance.scenarios import BY_NAME, NO_WILDCARD, WILDCARD, Scene, Step
from tests.xds.raw import Raw

EVERY_TYPE = (CLUSTER, LISTENER, ENDPOINT, ROUTE, SECRET, RUNTIME, EXTENSION)
UNKNOWN = "type.googleapis.com/nobody.knows.This"
SILENCE = 0.1
"""Seconds without a further response; an answer takes a few milliseconds."""

every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)


def every(scenarios: Mapping[str, list[Step]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("steps", scenarios.values(), ids=scenarios)


@every_variant
@every(BY_NAME)
async def test_by_name(raw: Raw, variant: Variant, steps: list[Step]) -> None:
    await play(raw, variant, steps, *EVERY_TYPE, *([UNKNOWN] if variant.aggregated else []))


@every_variant
@every(WILDCARD)
async def test_by_wildcard(raw: Raw, variant: Variant, steps: list[Step]) -> None:
    await play(raw, variant, steps, CLUSTER, LISTENER)


@every_variant
@every(NO_WILDCARD)
async def test_types_without_a_wildcard(raw: Raw, variant: Variant, steps: list[Step]) -> None:
    await play(raw, variant, steps, ENDPOINT, ROUTE, SECRET, RUNTIME, EXTENSION)


async def play(raw: Raw, variant: Variant, steps: list[Step], *type_urls: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        for type_url in type_urls:
            tasks.create_task(play_one(raw, variant, steps, type_url))


async def play_one(raw: Raw, variant: Variant, steps: list[Step], type_url: str) -> None:
    node_id = type_url.rpartition(".")[2]
    async with Connection(raw.xds, variant, type_url, node_id) as connection:
        scene = Scene(raw, connection.client(type_url), node_id)
        for number, step in enumerate(steps):
            try:
                await step.play(scene)
            except (AssertionError, TimeoutError) as error:
                heard = scene.client.responses
                raise AssertionError(f"step {number}, {type_url}: {error} after {heard}") from error
        await asyncio.sleep(SILENCE)
        assert len(scene.client.responses) == scene.responses, f"{type_url}: more than necessary"
