"""Which instances are there, and where their callers find them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mesh.model.names import InstanceId, Target
from mesh.model.topology import Endpoint, EndpointHealth, topology_of
from mesh.model.workload import Locality
from mesh.registry.leases import Report, endpoints_of, instance_of, next_end, over, reported
from mesh.registry.state import State
from tests.unit.registry.builders import addresses, filed, lease, workload

HEALTHY = Report(healthy=True, agent_pid=7)
STARTING = Report(healthy=False, agent_pid=7)


def orders(n: int) -> InstanceId:
    return InstanceId("shop", "orders", f"orders-{n}")


def health(*reports: Report) -> list[EndpointHealth]:
    """Of the endpoints of one instance after these reports."""
    it = lease()
    for report in reports:
        it = reported(it, report)
    return [endpoint.health for endpoint in endpoints_of([it]).get(Target("shop", "orders", 50051), ())]


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        pytest.param([], [], id="before any report"),
        pytest.param([STARTING], [], id="while it starts"),
        pytest.param([STARTING, HEALTHY], [EndpointHealth.HEALTHY], id="once it is healthy"),
        pytest.param([HEALTHY, STARTING], [EndpointHealth.UNHEALTHY], id="when it fails it stays listed"),
        pytest.param([HEALTHY, STARTING, HEALTHY], [EndpointHealth.HEALTHY], id="when it is back"),
        pytest.param([HEALTHY, Report(agent_pid=8)], [], id="when another agent starts it from scratch"),
    ],
)
def test_an_instance_is_an_endpoint_from_when_it_was_healthy_first(reports, expected):
    assert health(*reports) == expected


def test_a_draining_instance_is_no_endpoint():
    assert endpoints_of([replace(reported(lease(), HEALTHY), draining=True)]) == {}


def test_a_report_of_the_same_agent_does_not_end_the_draining_and_another_agent_does():
    draining = replace(reported(lease(), HEALTHY), draining=True)

    assert reported(draining, HEALTHY).draining
    assert not reported(draining, Report(healthy=True, agent_pid=8)).draining


def test_an_endpoint_belongs_to_the_service_and_to_its_version():
    one = reported(lease("orders-0", "version: v1, locality: {zone: z1}"), HEALTHY)
    two = reported(lease("orders-1", "version: v2", addresses=addresses(21_000)), HEALTHY)

    found = endpoints_of([two, one])

    first = Endpoint(addresses().inbound[50051], locality=Locality(zone="z1"))
    second = Endpoint(addresses(21_000).inbound[50051])
    assert found == {
        Target("shop", "orders", 50051): (first, second),
        Target("shop", "orders", 50051, "v1"): (first,),
        Target("shop", "orders", 50051, "v2"): (second,),
    }


def test_a_port_without_an_address_has_no_endpoint():
    assert endpoints_of([reported(lease(addresses=replace(addresses(), inbound={})), HEALTHY)]) == {}


def test_an_instance_has_the_addresses_it_was_started_with():
    spec = "upstreams: [{service: inventory}, {service: catalog}, {service: gone}]"
    documents = filed(State(), workload("inventory"), workload("catalog")).state.documents()

    instance = instance_of(lease(spec=spec), topology_of(documents))

    assert [(port.number, port.inbound.port, port.app.port) for port in instance.ports] == [(50051, 20_000, 20_001)]
    assert [(upstream.key, upstream.target.cluster, upstream.address.port) for upstream in instance.upstreams] == [
        ("inventory", "shop/inventory/50051", 20_002)
    ]
    assert (instance.outbound.port, instance.admin) == (20_003, "/run/orders.sock")


def test_a_port_that_came_after_the_start_is_left_out():
    assert instance_of(lease(addresses=replace(addresses(), app={})), topology_of(State().documents())).ports == ()


def test_a_term_is_over_at_its_end():
    ends = {orders(1): timedelta(seconds=10), orders(0): timedelta(seconds=10), orders(2): timedelta(seconds=11)}

    assert over(ends, timedelta(seconds=9.9)) == ()
    assert over(ends, timedelta(seconds=10)) == (orders(0), orders(1))


def test_the_next_end_is_waited_for():
    ends = {orders(0): timedelta(seconds=12), orders(1): timedelta(seconds=11)}

    assert next_end({}, timedelta()) is None
    assert next_end(ends, timedelta(seconds=10)) == timedelta(seconds=1)
    assert next_end(ends, timedelta(seconds=20)) == timedelta()
