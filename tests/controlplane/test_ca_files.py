"""Files of somebody else's authority: taken when they change, and not when something is wrong with them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from mesh.model.address import Address
from tests.controlplane.authority import (
    STEADY,
    TRUST,
    Mesh,
    proxied,
    serving,
    shakes_hands,
)
from tests.controlplane.conftest import Open
from tests.unit.identity.authorities import Ca
from tests.unit.registry.builders import workload

pytestmark = pytest.mark.usefixtures("quick_rotation")


@pytest.fixture
def root() -> Ca:
    return Ca("root")


@pytest.fixture
def source(tmp_path: Path, root: Ca) -> Path:
    return Ca("first", root).write(tmp_path / "files")


@pytest.fixture
async def mesh(opened: Open, tmp_path: Path, xds: Address, source: Path) -> AsyncIterator[Mesh]:
    async with serving(opened, tmp_path, xds, source) as it:
        await it.client.start_with(workload("orders"), workload("inventory"))
        yield it


async def test_leaves_are_signed_by_them(mesh: Mesh, source: Path, root: Ca) -> None:
    authority = await mesh.authority()
    _, signed = await mesh.sign()
    leaf, between = x509.load_pem_x509_certificates(signed.chain_pem.encode())

    assert authority.source == str(source)
    assert [(one.subject, one.signs, one.root) for one in authority.certificates] == [
        ("CN=first", True, False),
        ("CN=root", False, True),
    ]
    leaf.verify_directly_issued_by(between)
    assert signed.bundle_pem.encode() == root.pem
    assert await shakes_hands(mesh, *await mesh.sign())


async def test_another_intermediate_signs_at_once_and_every_leaf_is_renewed(mesh: Mesh, source: Path, root: Ca) -> None:
    async with proxied(mesh):
        before = await mesh.authority(lambda found: found.leaves)
        Ca("second", root).write(source)
        after = await mesh.authority(lambda found: found.certificates[0].subject == "CN=second")
        assert after.step == STEADY
        await mesh.authority(lambda found: found.leaves[0].serial != before.leaves[0].serial)


async def test_another_root_is_walked_to(mesh: Mesh, source: Path, root: Ca) -> None:
    async with proxied(mesh) as orders:
        await mesh.authority(lambda found: found.leaves and not found.waits_for)
        orders.follows = False
        Ca("second", Ca("other root")).write(source)
        told = await mesh.authority(lambda found: found.step == TRUST and found.waits_for)
        assert {one.subject for one in told.certificates} == {"CN=first", "CN=root", "CN=other root"}
        orders.follows = True
        await orders.load()
        done = await mesh.authority(lambda found: found.step == STEADY)
    assert [one.subject for one in done.certificates] == ["CN=second", "CN=other root"]


async def test_files_that_cannot_be_used_are_told_and_those_before_go_on(mesh: Mesh, source: Path) -> None:
    (source / "tls.key").write_bytes(Ca("other").key_pem)
    told = await mesh.authority(lambda found: found.problem)

    assert "does not belong" in told.problem
    assert "the mesh goes on with those before" in told.problem
    assert (await mesh.sign())[1].chain_pem


async def test_files_that_have_expired_are_not_taken(mesh: Mesh, source: Path, root: Ca) -> None:
    Ca("late", root, days=1, since=datetime.now(UTC) - timedelta(days=2)).write(source)
    told = await mesh.authority(lambda found: found.problem)

    assert "has expired" in told.problem
    assert told.certificates[0].subject == "CN=first"


async def test_its_roots_are_not_rotated_by_hand(mesh: Mesh) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="come from") as refused:
        await mesh.rotate()

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_restart_goes_on_with_the_files_that_were_taken_when_they_have_gone(
    mesh: Mesh, source: Path, opened: Open, tmp_path: Path
) -> None:
    async with proxied(mesh):
        await mesh.authority(lambda found: found.leaves)
        for name in ("tls.key", "tls.crt", "ca.crt"):
            (source / name).unlink()
        await mesh.authority(lambda found: "cannot be read" in found.problem)
        assert (await mesh.sign())[1].chain_pem


async def test_a_mesh_with_a_root_of_its_own_walks_to_files(opened: Open, tmp_path: Path, xds: Address) -> None:
    async with serving(opened, tmp_path, xds) as mesh:
        await mesh.client.start_with(workload("orders"))
        async with proxied(mesh):
            await mesh.authority(lambda found: found.leaves)

    source = Ca("first", Ca("root")).write(tmp_path / "files")
    async with serving(opened, tmp_path, xds, source) as mesh, proxied(mesh):
        done = await mesh.authority(lambda found: found.step == STEADY and found.certificates[0].subject == "CN=first")
    assert [one.subject for one in done.certificates] == ["CN=first", "CN=root"]
