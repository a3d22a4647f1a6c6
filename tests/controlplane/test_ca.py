"""The authority of a control plane: how one root follows another while proxies come along, or do not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from mesh.api.proa.v1 import agents_pb2, ca_pb2, status_pb2
from mesh.controlplane import rotation
from mesh.controlplane.main import serve
from mesh.controlplane.settings import Settings
from mesh.errors import StateError
from mesh.model.address import Address
from tests.controlplane.authority import (
    ORDERS,
    RENEW,
    RETIRE,
    STEADY,
    TRUST,
    Mesh,
    Proxy,
    key_ids,
    proxied,
    serving,
    shakes_hands,
)
from tests.controlplane.conftest import Open
from tests.controlplane.proxy import proxy
from tests.unit.registry.builders import workload

pytestmark = pytest.mark.usefixtures("quick_rotation")


@pytest.fixture
async def mesh(opened: Open, tmp_path: Path, xds: Address) -> AsyncIterator[Mesh]:
    async with serving(opened, tmp_path, xds) as it:
        await it.client.start_with(workload("orders"), workload("inventory"))
        yield it


async def test_a_mesh_says_whom_it_trusts(mesh: Mesh) -> None:
    authority = await mesh.authority()

    assert (authority.trust_domain, authority.step) == ("proa.local", STEADY)
    (root,) = authority.certificates
    assert root.signs
    assert root.root
    assert root.not_after.ToDatetime(UTC) - datetime.now(UTC) > timedelta(days=3_600)
    assert (authority.problem, authority.source) == ("", "")


async def test_a_step_comes_when_the_last_proxy_has_followed_whenever_somebody_looks(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "LOOK", timedelta(hours=1))
    async with proxied(mesh):
        await mesh.rotate()
        await mesh.at(STEADY)


async def test_without_documents_there_is_no_authority(opened: Open, tmp_path: Path, xds: Address) -> None:
    async with serving(opened, tmp_path, xds) as mesh:
        for call in (mesh.authority, mesh.rotate):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call()
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_rotation_goes_on_when_every_proxy_has_followed(mesh: Mesh) -> None:
    old = await mesh.authority()
    async with proxied(mesh) as orders, proxied(mesh, "inventory-0") as inventory:
        await mesh.authority(lambda found: not found.waits_for and len(found.leaves) == 2)
        orders.follows = False
        assert (await mesh.rotate()).step == TRUST

        for step, why in ((TRUST, "trust the new root"), (RENEW, "signed by the new"), (RETIRE, "trusts the old")):
            waiting = await mesh.at(step, waits_for=1)
            assert waiting.waits_for[0].node_id == ORDERS
            assert why in waiting.waits_for[0].why
            assert len({*key_ids(waiting)}) == (1 if step == RETIRE else 2)
            await orders.load()
        done = await mesh.at(STEADY)

    assert key_ids(done) != key_ids(old)
    assert len(done.certificates) == 1
    assert not done.waits_for
    assert {leaf.serial for leaf in done.leaves} == {orders._signed.serial, inventory._signed.serial}


async def test_a_second_call_finds_the_rotation_that_runs(mesh: Mesh) -> None:
    async with proxied(mesh) as orders:
        await mesh.authority(lambda found: found.leaves)
        orders.follows = False
        first = await mesh.rotate()
        second = await mesh.rotate()

    assert key_ids(first) == key_ids(second)
    assert second.step == TRUST


@pytest.mark.parametrize("step", [TRUST, RENEW, RETIRE])
async def test_a_control_plane_that_starts_goes_on_where_it_was(
    opened: Open, tmp_path: Path, xds: Address, step: ca_pb2.RotationStep
) -> None:
    async with serving(opened, tmp_path, xds) as mesh:
        await mesh.client.start_with(workload("orders"))
        async with proxied(mesh) as orders:
            await mesh.authority(lambda found: found.leaves)
            orders.follows = False
            await mesh.rotate()
            while (before := await mesh.authority(lambda found: found.waits_for)).step != step:
                await orders.load()
                await mesh.beyond(before.step)

    async with serving(opened, tmp_path, xds) as mesh:
        after = await mesh.authority()
        assert (after.step, key_ids(after)) == (step, key_ids(before))
        assert [one.node_id for one in after.waits_for] == [ORDERS]
        async with proxied(mesh):
            done = await mesh.at(STEADY)
    assert key_ids(done) == key_ids(before)[:1]


async def test_a_forced_rotation_leaves_behind_who_does_not_follow(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxied(mesh) as orders, proxied(mesh, "inventory-0"):
        await mesh.authority(lambda found: len(found.leaves) == 2 and not found.waits_for)
        orders.follows = False
        await mesh.rotate()
        await mesh.authority(lambda found: len(found.waits_for) == 1)

        monkeypatch.setattr(rotation, "PATIENCE", timedelta(seconds=0.3))
        assert (await mesh.rotate(force=True)).forced
        done = await mesh.at(STEADY, waits_for=1)
        assert [(one.node_id, one.left_behind) for one in done.waits_for] == [(ORDERS, True)]

        # It has been told, and is welcome whenever it is back.
        await orders.load()
        assert not (await mesh.authority(lambda found: not found.waits_for)).problem


async def test_an_instance_that_leaves_is_not_waited_for(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxied(mesh) as orders:
        await mesh.authority(lambda found: found.leaves)
        orders.follows = False
        await mesh.rotate()
        await mesh.authority(lambda found: found.waits_for)
        await orders._call.write(agents_pb2.AttachRequest(drain=agents_pb2.Drain()))
        await mesh.client.instances(lambda found: found["orders-0"].draining)
    done = await mesh.at(STEADY)

    assert not done.waits_for


async def test_proxies_and_the_control_plane_know_each_other_in_every_step(mesh: Mesh) -> None:
    """Streams that are open stay; new ones are made with whatever an Envoy may have at that time."""

    def trusted(key: str, signed: agents_pb2.SignCertificateResponse, bundle: str) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(bundle.encode(), key.encode(), signed.chain_pem.encode())

    async with AsyncExitStack() as streams, proxied(mesh) as orders:
        await mesh.authority(lambda found: found.leaves)
        key, signed = await mesh.sign()
        old = trusted(key, signed, signed.bundle_pem)
        first = await streams.enter_async_context(proxy(mesh.xds, ORDERS, old))
        await first.until("outbound")
        orders.follows = False
        await mesh.rotate()
        while (at := await mesh.authority(lambda found: found.waits_for)).step != RETIRE:
            again = await streams.enter_async_context(proxy(mesh.xds, ORDERS, old))
            await again.until("outbound")
            old = trusted(key, signed, orders.trust.bundle_pem)
            await orders.load()
            await mesh.beyond(at.step)
        # Whoever has not followed is refused from now on, but for what is open.
        assert not await shakes_hands(mesh, key, signed)
        assert await shakes_hands(mesh, *await mesh.sign())
        listed = (await mesh.client.status.ListProxies(status_pb2.ListProxiesRequest())).proxies
        assert not first.call.done()
        assert [one.streams for one in listed if one.node_id == ORDERS] != [0]
        await orders.load()
        await mesh.at(STEADY)


async def test_a_lost_key_is_told_and_another_root_takes_over(opened: Open, tmp_path: Path, xds: Address) -> None:
    async with serving(opened, tmp_path, xds) as mesh:
        await mesh.client.start_with(workload("orders"))
        async with proxied(mesh):
            await mesh.authority(lambda found: found.leaves)
    (key,) = (tmp_path / "ca").glob("*/tls.key")
    key.unlink()

    async with serving(opened, tmp_path, xds) as mesh:
        told = await mesh.authority(lambda found: found.problem)
        assert f"{key}: the authority's private key cannot be read" in told.problem
        assert "proa ca rotate" in told.problem
        with pytest.raises(grpc.aio.AioRpcError, match="private key cannot be read"):
            await mesh.sign()
        async with proxied_again(mesh, told):
            await mesh.rotate()
            done = await mesh.at(STEADY)
        assert not done.problem
        assert await shakes_hands(mesh, *await mesh.sign())


async def test_a_lost_key_with_nobody_left_is_told_with_what_can_be_done(
    opened: Open, tmp_path: Path, xds: Address
) -> None:
    async with serving(opened, tmp_path, xds) as mesh:
        await mesh.client.start_with(workload("orders"))
        await mesh.sign()
    (key,) = (tmp_path / "ca").glob("*/tls.key")
    key.unlink()

    with pytest.raises(StateError, match=f"{key}: the authority's private key cannot be read") as caught:
        await serve(Settings(tmp_path, tmp_path / "run" / "api.sock", xds), await opened(), asyncio.Event())
    assert "proa ca rotate" not in caught.value.remedy, "there is nobody to ask"
    assert f"move {tmp_path / 'ca'} away" in caught.value.remedy

    (tmp_path / "ca").rename(tmp_path / "lost")
    async with serving(opened, tmp_path, xds) as mesh:
        assert (await mesh.sign())[1].chain_pem


@asynccontextmanager
async def proxied_again(mesh: Mesh, before: ca_pb2.Authority) -> AsyncIterator[Proxy]:
    """An agent that has a leaf from before, which cannot be signed now."""
    async with mesh.client.attached("orders-0") as agent:
        it = Proxy(mesh, agent.call, agent.attached.trust)
        it._signed = agents_pb2.SignCertificateResponse(
            serial="1", not_after=before.leaves[0].not_after, trust=agent.attached.trust
        )
        running = asyncio.create_task(it.run())
        yield it
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_key_that_comes_back_is_used_again(opened: Open, tmp_path: Path, xds: Address) -> None:
    async with serving(opened, tmp_path, xds) as mesh:
        await mesh.client.start_with(workload("orders"))
        async with proxied(mesh):
            await mesh.authority(lambda found: found.leaves)
    (key,) = (tmp_path / "ca").glob("*/tls.key")
    content = key.read_bytes()
    key.write_bytes(content[:60])

    async with serving(opened, tmp_path, xds) as mesh:
        await mesh.authority(lambda found: "not readable as PEM" in found.problem)
        key.write_bytes(content)
        await mesh.authority(lambda found: not found.problem)
        assert await shakes_hands(mesh, *await mesh.sign())
