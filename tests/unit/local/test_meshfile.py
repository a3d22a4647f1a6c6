"""`mesh.json`: a contract with other tools."""

from mesh.api.proa.v1.agents_pb2 import Addresses, InstanceReport
from mesh.api.proa.v1.status_pb2 import Instance
from mesh.local.meshfile import mesh_json

ORDERS = Instance(
    namespace="bookstore",
    workload="orders",
    instance="orders-0",
    service="orders",
    version="v1",
    identity="spiffe://proa.local/ns/bookstore/sa/orders",
    first_port=50051,
    addresses=Addresses(
        inbound={8080: "127.0.0.1:8", 50051: "127.0.0.1:5"},
        app={8080: "127.0.0.1:9", 50051: "127.0.0.1:2"},
        upstreams={"inventory": "127.0.0.1:7"},
        outbound="127.0.0.1:6",
        admin="/run/admin.sock",
    ),
    report=InstanceReport(pid=2, agent_pid=3, envoy_pid=4),
)


def content(agent_pid: int | None) -> dict[str, object]:
    return mesh_json(
        address="unix:/a",
        xds="127.0.0.1:1",
        metrics="127.0.0.1:2",
        control_plane_pid=1,
        instances=[(ORDERS, agent_pid)],
    )


def test_the_file_says_where_everything_is() -> None:
    assert content(agent_pid=3) == {
        "control_plane": {"address": "unix:/a", "pid": 1, "xds": "127.0.0.1:1", "metrics": "127.0.0.1:2"},
        "gateway": None,
        "dashboard": None,
        "workloads": [
            {
                "name": "orders",
                "namespace": "bookstore",
                "service": "orders",
                "version": "v1",
                "instance": "orders-0",
                "identity": "spiffe://proa.local/ns/bookstore/sa/orders",
                "pid": 2,
                "address": "127.0.0.1:2",
                "agent": {"pid": 3},
                "envoy": {
                    "pid": 4,
                    "admin": "unix:/run/admin.sock",
                    "inbound": "127.0.0.1:5",
                    "outbound": "127.0.0.1:6",
                    "upstreams": {"inventory": "127.0.0.1:7"},
                },
            }
        ],
    }


def test_an_instance_being_started_again_has_no_process_ids() -> None:
    for agent_pid in (None, 33):
        (entry,) = content(agent_pid)["workloads"]  # type: ignore[misc]

        assert (entry["pid"], entry["envoy"]["pid"], entry["agent"]["pid"]) == (None, None, agent_pid)
        assert entry["address"] == "127.0.0.1:2"
