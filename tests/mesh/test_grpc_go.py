"""A gRPC client in Go with what `proa bootstrap grpc` keeps: another library that speaks xDS itself."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mesh.agent.client_folder import ClientFolder
from mesh.model.address import Address
from tests.mesh.grpc_client.joined import calling, joined
from tests.mesh.running import RunningMesh
from tests.xds.conformance.grpc_shop import CLIENT, Shop

# To compile gRPC takes a minute, the first time.
pytestmark = pytest.mark.timeout(600)

UNABLE = ("dial tcp", "requires go >=", "toolchain not available")

SOURCE = Path(__file__).parent / "grpc_client" / "go"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    built = tmp_path_factory.mktemp("go") / "client"
    command = ["go", "build", "-mod=readonly", "-o", str(built), "."]
    done = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, timeout=500, check=False)
    if done.returncode and any(reason in done.stderr for reason in UNABLE):
        pytest.skip("go is too old, or the modules of gRPC cannot be downloaded")
    assert done.returncode == 0, done.stderr
    return str(built)


@pytest.mark.envoy
async def test_a_client_in_go_calls_services_of_a_strict_mesh_by_name(
    shared: RunningMesh, tmp_path: Path, program: str
) -> None:
    async with joined(shared, tmp_path / "client") as client, calling(client.folder, program) as caller:
        for name in ("inventory", "catalog.bookstore:50051", "orders.bookstore.svc.cluster.local"):
            assert await caller.call(name) == "OK", name
        nobody = await caller.ask("call nobody")
        proxy = shared.proxies()[client.node]

    assert nobody["status"].startswith("UNAVAILABLE")
    assert nobody["seconds"] < 10, "gRPC's own patience is 15 s"
    assert proxy["state"] == "SYNCED"
    assert proxy["unmet"] == ["it asks for nobody, and no service has that name there"]


async def test_a_client_in_go_does_not_believe_a_callee_with_the_certificate_of_somebody_else(
    tmp_path: Path, program: str
) -> None:
    folder = ClientFolder(tmp_path / "client")
    folder.claim()
    shop = Shop(folder)
    shop.sign()
    async with shop.plane.serving(), shop.answering() as endpoint:
        folder.keep_bootstrap(CLIENT, Address("127.0.0.1", shop.plane.port))
        async with calling(folder.path, program) as caller:
            shop.publish(endpoint, account="clerk")
            assert (await caller.call("stock")).startswith("UNAVAILABLE")

            shop.publish(endpoint, account="stock")
            await caller.until("stock", "OK")
