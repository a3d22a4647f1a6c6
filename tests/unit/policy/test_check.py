"""References that lead nowhere, and documents that contradict each other."""

import pytest

from mesh.model.topology import topology_of
from mesh.policy.check import conflicts
from mesh.policy.references import unresolved
from tests.builders import a_policy, a_workload, documents


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        pytest.param(
            a_workload("a", "upstreams: [{service: ordres}]"),
            "mesh.yaml:1: upstream ordres: there is no service ordres in namespace shop. Did you mean orders?",
            id="upstream, something near",
        ),
        pytest.param(
            a_workload("a", "upstreams: [{service: mail}]"),
            "mesh.yaml:1: upstream mail: there is no service mail in namespace shop. Did you mean mail.office?",
            id="upstream, the same name elsewhere",
        ),
        pytest.param(
            a_workload("a", "upstreams: [{service: zebra.nowhere}]"),
            "mesh.yaml:1: upstream zebra.nowhere: there is no service zebra in namespace nowhere. Services there: none",
            id="upstream, nothing near",
        ),
        pytest.param(
            a_workload("a", "upstreams: [{service: orders, port: 9}]"),
            "mesh.yaml:1: upstream orders: service orders does not have port 9. Its ports: 50051",
            id="upstream, other port",
        ),
        pytest.param(
            a_workload("a", "upstreams: [{service: worker}]"),
            "mesh.yaml:1: upstream worker: service worker does not have any port. Its ports: none",
            id="upstream, no ports",
        ),
        pytest.param(
            a_policy("p", "{targetRefs: [{kind: Service, name: zebra}]}"),
            "mesh.yaml:1: targetRefs: there is no service zebra in namespace shop. Services there: orders, worker",
            id="target",
        ),
        pytest.param(
            a_policy("p", "{targetRefs: [{kind: Service, name: orders, sectionName: http}]}"),
            "mesh.yaml:1: targetRefs: service orders has no port named http. Its ports: grpc",
            id="target, other port",
        ),
        pytest.param(
            a_policy("p", "{targetRefs: [{kind: Service, name: worker, sectionName: http}]}"),
            "mesh.yaml:1: targetRefs: service worker has no port named http. Its ports: none",
            id="target, no ports",
        ),
    ],
)
def test_a_reference_that_leads_nowhere_offers_the_nearest_name(document: str, problem: str) -> None:
    there = (a_workload("orders"), a_workload("worker", "ports: []"), a_workload("mail", namespace="office"))
    mesh = documents(document, *there)
    # The document itself may imply a service, which is not what is meant.
    found = unresolved(mesh, topology_of(documents(*there)))

    assert [str(error) for error in found] == [problem]


def test_references_that_lead_somewhere_are_no_problem() -> None:
    mesh = documents(
        a_workload("a", "upstreams: [{service: b}, {service: b, port: 50051}]"),
        a_workload("b"),
        a_policy("p", "{targetRefs: [{kind: Service, name: b}, {kind: Service, name: b, sectionName: grpc}]}"),
    )

    assert unresolved(mesh, topology_of(mesh)) == ()
    assert conflicts(mesh, topology_of(mesh)) == ()


def test_of_two_policies_that_set_one_field_the_later_is_told() -> None:
    spec = "{targetRefs: [{kind: Service, name: b}], retry: {%s}}"
    mesh = documents(
        a_policy("z", spec % "numRetries: 1, disabled: false"),
        a_policy("a", spec % "numRetries: 2"),
        a_policy("m", "{targetRefs: [{kind: Service, name: b}]}"),
    )

    [error] = conflicts(mesh, topology_of(mesh))
    assert str(error) == (
        "mesh.yaml:1: retry.num_retries of service b is already set by a (mesh.yaml:6). "
        "Remove it from one of them; until then the older one counts"
    )


def test_workloads_that_give_a_port_two_protocols_are_told() -> None:
    mesh = documents(
        a_workload("a", "service: s, port: 1"), a_workload("b", "service: s, ports: [{port: 1, appProtocol: tcp}]")
    )

    [error] = conflicts(mesh, topology_of(mesh))
    assert str(error) == (
        "mesh.yaml:6: port 1 of service s is tcp here and grpc at mesh.yaml:1. "
        "Give both the same appProtocol; until then the other one counts"
    )
