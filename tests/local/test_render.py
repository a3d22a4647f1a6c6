"""`proa render --state`: what the mesh of a state folder knows of its instances."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from mesh.agent.ports import PortBook
from mesh.api.proa.v1 import documents_pb2
from mesh.config import parse
from mesh.local.render import rendered
from mesh.local.state import State
from mesh.model.names import InstanceId
from mesh.registry.registry import Registry
from mesh.registry.store import Store
from tests.builders import a_workload
from tests.unit.registry.builders import NOON, addresses

CALLER = a_workload("web", "port: 50052, upstreams: [{service: orders}]")
CALLED = a_workload("orders", "port: 50051, replicas: 2")
FILES = (documents_pb2.SourceFile(path="mesh.yaml", text=f"{CALLER}\n---\n{CALLED}", folder="/"),)
PORTS = {"orders-0": 20000, "orders-1": 20001, "orders-2": 20002}


async def a_mesh(folder: Path, *attached: str) -> State:
    """A state folder in which each of three instances had a port, and these are attached."""
    state = State.at(folder)
    for name, port in PORTS.items():
        book = PortBook(state.ports, free=lambda _: True, first=lambda port=port: port)  # type: ignore[misc]
        book.allocate(f"shop/orders/{name}", ["inbound/50051"])
    store = await Store.open(state.database)
    registry, _ = await Registry.load(store, now=lambda: NOON, uptime=timedelta)
    await registry.apply(parse(FILES[0].text, "mesh.yaml", "/"))
    for name in attached:
        await registry.attach(InstanceId("shop", "orders", name), "g", addresses())
    await registry.close()
    return state


def ports_of_orders(state: State | None) -> list[int]:
    config: Any = rendered(FILES, "web", state).config
    [orders] = [one for one in config["endpoints"] if one["cluster_name"] == "shop/orders/50051"]
    found = [endpoint["endpoint"] for group in orders["endpoints"] for endpoint in group["lb_endpoints"]]
    return [one["address"]["socket_address"].get("port_value", 0) for one in found]


async def test_the_endpoints_are_the_instances_that_are_attached(tmp_path: Path) -> None:
    """After a restart these are not the first numbers."""
    state = await a_mesh(tmp_path, "orders-1", "orders-2")

    assert ports_of_orders(state) == [20001, 20002]
    config: Any = rendered(FILES, "orders", state).config
    assert config["bootstrap"]["node"]["id"] == "shop/orders/orders-1"


async def test_of_a_mesh_that_does_not_run_the_replicas_are_counted(tmp_path: Path) -> None:
    assert ports_of_orders(await a_mesh(tmp_path)) == [20000, 20001]
