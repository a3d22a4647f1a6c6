"""What a shape of proxies gets to know."""

from mesh.model.documents import Documents
from mesh.model.names import Target
from mesh.model.shape import shape_of
from mesh.model.topology import topology_of
from mesh.policy.view import view_for
from tests.builders import a_policy, a_view, a_workload, documents, workload

SHOP = (
    a_workload("web", "port: 80, upstreams: [{service: orders, port: 2}, {service: mail.office}]"),
    a_workload("orders", "ports: [{port: 1}, {port: 2, name: admin}]"),
    a_workload("mail", "port: 25", namespace="office"),
)


def test_declared_upstreams_are_all_that_is_in_scope() -> None:
    targets = [destination.target for destination in a_view(documents(*SHOP), "web").destinations]

    assert targets == [Target("office", "mail", 25), Target("shop", "orders", 2)]


def test_upstreams_that_are_not_there_do_not_open_the_namespace() -> None:
    mesh = documents(*SHOP, a_workload("lost", "upstreams: [{service: nobody}]"))

    assert a_view(mesh, "lost").destinations == ()


def test_without_declared_upstreams_the_own_namespace_is_in_scope() -> None:
    targets = [destination.target for destination in a_view(documents(*SHOP), "orders").destinations]

    assert targets == [Target("shop", "orders", 1), Target("shop", "orders", 2), Target("shop", "web", 80)]


def test_only_the_first_port_is_called_without_a_port() -> None:
    first, second = a_view(documents(*SHOP), "orders").destinations[:2]

    assert {"orders", "orders:1", "orders.shop.svc.cluster.local", "orders.shop:1"} <= set(first.hosts)
    assert {"orders:2", "orders.shop.svc:2"} <= set(second.hosts)
    assert not {"orders", "orders.shop"} & set(second.hosts)


def test_whoever_answers_is_known_by_the_declared_accounts() -> None:
    more = a_workload("orders-2", "service: orders, version: v2, serviceAccount: clerk, port: 1")
    [first, *_] = a_view(documents(*SHOP, more), "orders").destinations

    assert first.identities == ("spiffe://proa.local/ns/shop/sa/clerk", "spiffe://proa.local/ns/shop/sa/orders")


def test_a_view_changes_only_with_what_it_depends_on() -> None:
    mesh = documents(*SHOP)
    other_service = a_policy("p", "{targetRefs: [{kind: Service, name: web}], retry: {disabled: true}}")
    own_upstream = a_policy("p", "{targetRefs: [{kind: Service, name: orders}], retry: {disabled: true}}")

    assert a_view(documents("# the same, a line further down\n", *SHOP), "web") == a_view(mesh, "web")
    assert a_view(documents(*SHOP, other_service), "web") == a_view(mesh, "web")
    assert a_view(documents(*SHOP, own_upstream), "web") != a_view(mesh, "web")
    assert hash(a_view(mesh, "web")) == hash(a_view(documents(*SHOP), "web"))


def test_a_service_or_port_that_has_gone_is_left_out() -> None:
    mesh = documents(*SHOP)
    shape = shape_of(workload(mesh, "web"), topology_of(mesh))
    changed = documents(SHOP[0], a_workload("orders", "port: 1"))

    assert view_for(shape, topology_of(Documents()), Documents()).destinations == ()
    assert view_for(shape, topology_of(changed), changed).destinations == ()
