"""What a shape of proxies gets to know."""

from dataclasses import replace

from mesh.model.documents import Documents
from mesh.model.names import Target
from mesh.model.shape import shape_of
from mesh.model.topology import topology_of
from mesh.policy.view import Views, view_for
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
    first, second = a_view(documents(*SHOP), "orders").virtual_hosts[:2]

    assert {"orders", "orders:1", "orders.shop.svc.cluster.local", "orders.shop:1"} <= set(first.hosts)
    assert {"orders:2", "orders.shop.svc:2"} <= set(second.hosts)
    assert not {"orders", "orders.shop"} & set(second.hosts)


def test_whoever_answers_is_known_by_the_declared_accounts() -> None:
    more = a_workload("orders-2", "service: orders, version: v2, serviceAccount: clerk, port: 1")
    [first, *_] = a_view(documents(*SHOP, more), "orders").destinations

    assert first.identities == ("spiffe://proa.local/ns/shop/sa/clerk", "spiffe://proa.local/ns/shop/sa/orders")


def test_a_policy_of_a_service_is_in_the_routes_to_it_alone() -> None:
    never = a_policy("p", "{targetRefs: [{kind: Service, name: orders}], retry: {disabled: true}}")
    before, after = a_view(documents(*SHOP), "web"), a_view(documents(*SHOP, never), "web")

    assert after.destinations == before.destinations
    assert after.virtual_hosts[0] == before.virtual_hosts[0]
    assert after.virtual_hosts[1].calls.otherwise.retry is None


def test_nobody_dials_a_tcp_port_by_name() -> None:
    view = a_view(documents(a_workload("db", "ports: [{port: 5432, appProtocol: tcp}]")), "db")

    assert [destination.target for destination in view.destinations] == [Target("shop", "db", 5432)]
    assert view.virtual_hosts == ()


def test_a_view_changes_only_with_what_it_depends_on() -> None:
    mesh = documents(*SHOP)
    other_service = a_policy("p", "{targetRefs: [{kind: Service, name: web}], retry: {disabled: true}}")
    own_upstream = a_policy("p", "{targetRefs: [{kind: Service, name: orders}], retry: {disabled: true}}")

    assert a_view(documents("# the same, a line further down\n", *SHOP), "web") == a_view(mesh, "web")
    assert a_view(documents(*SHOP, other_service), "web") == a_view(mesh, "web")
    assert a_view(documents(*SHOP, own_upstream), "web") != a_view(mesh, "web")
    assert hash(a_view(mesh, "web")) == hash(a_view(documents(*SHOP), "web"))


def test_what_views_have_in_common_is_one_object() -> None:
    mesh = documents(*SHOP, a_workload("desk", "upstreams: [{service: orders.shop, port: 2}]", namespace="office"))
    views = Views(topology_of(mesh), mesh)
    web, orders, desk = (
        views.of(shape_of(workload(mesh, name), topology_of(mesh))) for name in ("web", "orders", "desk")
    )

    assert web.destinations[1] is orders.destinations[1] is desk.destinations[0]
    assert web.virtual_hosts[1] is orders.virtual_hosts[1]
    assert desk.virtual_hosts[0].hosts == tuple(name for name in web.virtual_hosts[1].hosts if name != "orders:2")


def test_what_is_as_before_is_the_object_from_there() -> None:
    never = a_policy("p", "{targetRefs: [{kind: Service, name: orders}], retry: {disabled: true}}")
    before, after = documents(*SHOP), documents(*SHOP, never)
    shape = shape_of(workload(before, "web"), topology_of(before))
    then = Views(topology_of(before), before)
    now = Views(topology_of(after), after, then)

    mail, orders = then.of(shape).virtual_hosts
    assert now.of(shape).virtual_hosts[0] is mail
    assert now.of(shape).virtual_hosts[1] != orders
    assert all(one is was for one, was in zip(now.of(shape).destinations, then.of(shape).destinations, strict=True))


def test_a_service_or_port_that_has_gone_is_left_out() -> None:
    mesh = documents(*SHOP)
    shape = shape_of(workload(mesh, "web"), topology_of(mesh))
    changed = documents(SHOP[0], a_workload("orders", "port: 1"))

    assert view_for(shape, topology_of(Documents()), Documents()).destinations == ()
    assert view_for(shape, topology_of(changed), changed).destinations == ()


def test_a_revoked_identity_is_believed_by_no_caller_and_known_to_every_callee() -> None:
    mesh = documents(
        a_workload("web", "port: 80"),
        a_workload("orders", "port: 1, version: v1, serviceAccount: old"),
        a_workload("orders-v2", "service: orders, port: 1, version: v2, serviceAccount: new"),
    )
    old, new = (f"spiffe://proa.local/ns/shop/sa/{account}" for account in ("old", "new"))
    orders = Target("shop", "orders", 1)

    def identities(*revoked: str) -> tuple[str, ...]:
        topology = replace(topology_of(mesh), revoked=revoked)
        view = view_for(shape_of(workload(mesh, "web"), topology), topology, mesh)
        assert view.revoked == revoked
        return next(found.identities for found in view.destinations if found.target == orders)

    assert identities() == (new, old)
    assert identities(old) == (new,)
    # None at all would be anyone to Envoy.
    assert identities(new, old) == ("spiffe://proa.local/nobody",)
