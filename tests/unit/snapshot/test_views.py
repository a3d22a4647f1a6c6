"""Views as bytes: the same as the pure functions make, but each part once."""

import gc

import pytest

from mesh.model.documents import Documents
from mesh.model.shape import shape_of
from mesh.model.topology import topology_of
from mesh.policy.view import ProxyView, Views
from mesh.snapshot.memo import Memo
from mesh.snapshot.seal import part, seal
from mesh.snapshot.types import CLUSTER, ROUTE
from mesh.snapshot.views import ViewSeal
from mesh.translate.resources import instance_resources, resources_for
from tests.builders import a_policy, a_view, a_workload, an_instance, documents
from tests.unit.translate.scenarios import SCENARIOS


def views(mesh: Documents) -> dict[str, ProxyView]:
    topology = topology_of(mesh)
    of = Views(topology, mesh).of
    return {workload.name: of(shape_of(workload, topology)) for workload in mesh.workloads}


def shop(retries: int = 2) -> Documents:
    return documents(
        a_workload(
            "web", "ports: [{port: 80}, {port: 81, name: admin}], upstreams: [{service: orders}, {service: stock}]"
        ),
        a_workload("desk", "port: 90, upstreams: [{service: stock}, {service: orders}]"),
        a_workload("orders", "port: 50051, upstreams: [{service: stock}]"),
        a_workload("stock", "port: 50051, upstreams: [{service: mail}]"),
        a_workload("mail"),
        a_policy("p", f"{{targetRefs: [{{kind: Service, name: orders}}], retry: {{numRetries: {retries}}}}}"),
    )


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_bytes_are_those_of_the_whole_messages(name: str) -> None:
    view = a_view(SCENARIOS[name].mesh, "web")

    assert ViewSeal().part(view).version == part(resources_for(view)).version
    assert ViewSeal().part(view).resources == {
        url: named for url, named in part(resources_for(view)).resources.items() if named
    }


def test_what_views_have_in_common_is_one_object() -> None:
    seals = ViewSeal()
    web, desk, orders = (seals.part(views(shop())[name]).resources for name in ("web", "desk", "orders"))

    assert web[CLUSTER] is desk[CLUSTER]
    assert web[ROUTE]["outbound"] is desk[ROUTE]["outbound"]
    assert web[CLUSTER]["shop/stock/50051"] is orders[CLUSTER]["shop/stock/50051"]
    assert web[ROUTE].keys() - desk[ROUTE].keys() == {"inbound/80", "inbound/81"}


def test_equal_views_have_one_part() -> None:
    seals = ViewSeal()
    before = {name: seals.part(view) for name, view in views(shop()).items()}

    assert {name: seals.part(view) for name, view in views(shop()).items()} == before


def test_a_change_makes_only_what_it_is_about() -> None:
    seals = ViewSeal()
    before = {name: seals.part(view) for name, view in views(shop()).items()}
    after = {name: seals.part(view) for name, view in views(shop(retries=3)).items()}

    assert {name for name in after if after[name] is not before[name]} == {"web", "desk", "mail"}
    assert after["web"].resources[CLUSTER] is before["web"].resources[CLUSTER]
    then, now = before["web"].resources[ROUTE], after["web"].resources[ROUTE]
    assert {name for name in now if now[name] is not then[name]} == {"outbound", "upstream/shop/orders/50051"}


def test_nothing_is_kept_of_what_nobody_has_any_more() -> None:
    seals = ViewSeal()
    memos = [memo for memo in vars(seals).values() if isinstance(memo, Memo)]
    kept = {name: seals.part(view) for name, view in views(shop()).items()}
    sizes = [len(memo) for memo in memos]
    for retries in range(3, 10):
        kept = {name: seals.part(view) for name, view in views(shop(retries)).items()}
        gc.collect()

        assert [len(memo) for memo in memos] == sizes

    kept.clear()
    gc.collect()
    assert [len(memo) for memo in memos] == [0] * len(memos)


def test_types_that_have_not_changed_are_the_object_that_they_were() -> None:
    seals = ViewSeal()
    own = part(instance_resources(an_instance(shop(), "web")))
    before = seal(seals.part(views(shop())["web"]), own)
    after = seal(seals.part(views(shop(retries=3))["web"]), own, before)

    assert {url for url in after.resources if after.of(url) is not before.of(url)} == {ROUTE}
    assert after.version != before.version
    assert seal(seals.part(views(shop())["web"]), own, after) == before


def test_a_memo_makes_each_thing_once_as_long_as_it_is_used() -> None:
    class Thing:
        pass

    made: list[int] = []

    def make(key: int) -> Thing:
        made.append(key)
        return Thing()

    memo = Memo(make)
    thing = memo.get(1)
    assert memo.get(1) is thing
    memo.get(2)
    gc.collect()

    memo.get(2)
    assert made == [1, 2, 2]
    assert memo.get(1) is thing
    assert len(memo) == 1
