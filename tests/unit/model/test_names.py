"""Names and their inverses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model.names import (
    Identity,
    InstanceId,
    Person,
    Target,
    app_cluster,
    control_plane_identity,
    host_names,
    inbound_name,
    trust_domain_prefix,
    upstream_listener_name,
    upstream_routes_name,
    upstream_routes_target,
    workloads_prefix,
)

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
ports = st.integers(1, 65535)


@given(labels, labels, ports, labels | st.just(""))
def test_a_target_is_found_again_from_its_cluster(namespace: str, service: str, port: int, version: str) -> None:
    target = Target(namespace, service, port, version)

    assert Target.from_cluster(target.cluster) == target


@given(labels, labels, labels)
def test_an_instance_is_found_again_from_its_node_id(namespace: str, workload: str, instance: str) -> None:
    who = InstanceId(namespace, workload, instance)

    assert InstanceId.from_node_id(who.node_id) == who


@given(labels, labels, labels)
def test_an_identity_is_found_again_from_its_uri(trust_domain: str, namespace: str, account: str) -> None:
    who = Identity(trust_domain, namespace, account)

    assert Identity.from_uri(who.uri) == who
    assert who.uri.startswith(trust_domain_prefix(trust_domain))


@pytest.mark.parametrize(
    "uri", ["", "https://td/ns/a/sa/b", "td/ns/a/sa/b", "spiffe://td/ns/a", "spiffe://td/x/a/sa/b"]
)
def test_another_uri_is_no_identity(uri: str) -> None:
    with pytest.raises(ValueError, match="is not spiffe://"):
        Identity.from_uri(uri)


@pytest.mark.parametrize("node_id", ["", "a/b", "a/b/c/d"])
def test_a_node_id_has_three_parts(node_id: str) -> None:
    with pytest.raises(ValueError, match="unpack"):
        InstanceId.from_node_id(node_id)


def test_the_control_plane_has_an_identity_of_its_own() -> None:
    assert control_plane_identity("td").uri == "spiffe://td/ns/proa-system/sa/control-plane"


def test_listeners_and_clusters_are_told_apart() -> None:
    target = Target("shop", "orders", 1)

    names = {inbound_name(1), app_cluster(1), upstream_routes_name(target), target.cluster}

    assert len(names) == 4
    assert upstream_listener_name("inbound/1") not in names


def test_a_short_name_means_the_namespace_of_the_caller() -> None:
    full = ("orders.shop", "orders.shop.svc", "orders.shop.svc.cluster.local")

    assert host_names("orders", "shop", caller_namespace="shop") == ("orders", *full)
    assert host_names("orders", "shop", caller_namespace="elsewhere") == full


@given(labels, labels, labels)
def test_a_grpc_client_is_known_by_its_account_and_is_no_instance_of_a_workload(
    namespace: str, account: str, instance: str
) -> None:
    who = InstanceId.of_client(namespace, account, instance)

    assert InstanceId.from_node_id(who.node_id).service_account == account
    assert InstanceId(namespace, account, instance).service_account is None


@given(labels, labels)
def test_a_target_is_found_again_from_its_routes(namespace: str, service: str) -> None:
    target = Target(namespace, service, 1, "v2")

    assert upstream_routes_target(upstream_routes_name(target)) == target


def test_a_person_is_found_again_from_its_uri_and_is_no_workload() -> None:
    person = Person("proa.local", "viewer", "a1b2")

    assert person.uri == "spiffe://proa.local/role/viewer/a1b2"
    assert Person.from_uri(person.uri) == person
    assert not person.uri.startswith(workloads_prefix("proa.local"))
    assert Identity("proa.local", "shop", "orders").uri.startswith(workloads_prefix("proa.local"))
    with pytest.raises(ValueError, match="is not spiffe"):
        Identity.from_uri(person.uri)


@pytest.mark.parametrize("uri", ["", "spiffe://x/ns/a/sa/b", "https://x/role/viewer/a", "spiffe://x/role/viewer"])
def test_another_uri_is_no_person(uri: str) -> None:
    with pytest.raises(ValueError, match="is not spiffe"):
        Person.from_uri(uri)
