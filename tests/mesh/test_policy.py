"""A policy, applied and deleted while the mesh runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.load import add_stock, connected, outcomes, place_order
from tests.mesh.running import RETRY, RunningMesh, admin, documents, soon

pytestmark = pytest.mark.envoy

ORDERS = 30
TRIGGERS = "connect-failure,refused-stream,reset,unavailable"


async def test_retries_come_with_a_policy_and_go_with_it(
    launch: Callable[..., RunningMesh], bookstore: Callable[..., Path]
) -> None:
    # With reflection its proto says that Reserve may be tried again, and no policy is needed.
    mesh = launch(bookstore(inventory={"env": {"FAIL_EVERY": "3", "REFLECTION": "off"}}))
    async with (
        connected(mesh.instance("orders")["address"]) as orders,
        connected(mesh.upstream("orders", "inventory")) as inventory,
    ):
        await add_stock(inventory)
        order = place_order(orders)

        assert set(await outcomes(order, ORDERS)) == {"OK", "UNAVAILABLE"}

        assert await mesh.do("apply", "-f", str(RETRY)) == "BackendTrafficPolicy/bookstore/inventory-retry created\n"
        await soon(lambda: retries_on(mesh) == TRIGGERS)
        assert set(await outcomes(order, ORDERS)) == {"OK"}
        assert "inventory-retry" in await mesh.do("get", "BackendTrafficPolicy", "-n", "bookstore")

        assert "deleted" in await mesh.do("delete", "backendtrafficpolicy", "inventory-retry", "-n", "bookstore")
        await soon(lambda: retries_on(mesh) != TRIGGERS)
        assert "UNAVAILABLE" in await outcomes(order, ORDERS)
        assert mesh.proa("get", "BackendTrafficPolicy", "inventory-retry").returncode == 1


def retries_on(mesh: RunningMesh) -> str:
    """Envoy's conditions for a retry of calls from orders to inventory."""
    dump = admin(mesh.instance("orders"), "/config_dump?resource=dynamic_route_configs")
    (config,) = (
        one["route_config"]
        for one in dump["configs"]
        if one["route_config"]["name"] == "upstream/bookstore/inventory/50051"
    )
    (route,) = config["virtual_hosts"][0]["routes"]
    found: str = route["route"].get("retry_policy", {}).get("retry_on", "")
    return found


def test_apply_is_all_or_nothing(shared: RunningMesh, tmp_path: Path) -> None:
    mesh = shared
    good = policy("good", "inventory")
    bad = policy("bad", "invntory")
    both = tmp_path / "both.yaml"
    both.write_text(documents(good, bad))

    refused = mesh.proa("apply", "-f", str(both))

    assert refused.returncode == 2
    assert "Did you mean inventory?" in refused.stderr
    assert mesh.proa("get", "backendtrafficpolicies").stderr == "There is no backendtrafficpolicies.\n"
    assert mesh.proa("apply", "-f", "-", text=documents(good)).stdout.endswith("/good created\n")
    assert mesh.proa("apply", "-f", "-", text=documents(good)).stdout.endswith("/good unchanged\n")
    assert mesh.proa("delete", "-f", "-", text=documents(good)).stdout.endswith("/good deleted\n")
    again = mesh.proa("delete", "-f", "-", text=documents(good))
    assert (again.returncode, "there is no such applied document" in again.stderr) == (1, True)
    of_file = mesh.proa("delete", "workload", "orders")
    assert (of_file.returncode, "it comes from" in of_file.stderr) == (1, True)


def policy(name: str, service: str) -> dict[str, Any]:
    return {
        "apiVersion": "proa.mesh/v1alpha1",
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": name, "namespace": "bookstore"},
        "spec": {"targetRefs": [{"kind": "Service", "name": service}], "retry": {"numRetries": 1}},
    }
