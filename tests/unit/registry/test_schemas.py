"""What is known of methods, and what counts when several say something."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mesh.errors import LimitError, NotFoundError, UsageError
from mesh.model.descriptors import Reading
from mesh.model.documents import Key
from mesh.model.schema import Method, Schema
from mesh.registry import documents, schemas
from mesh.registry.known import Offer, Origin, Source
from mesh.registry.schemas import MOST_BYTES, forgotten, observed, pushed
from mesh.registry.state import State
from tests.unit.registry.builders import LATER, NOON, applied, filed, workload

GET, PUT = Method("shop.v1.Orders", "Get"), Method("shop.v1.Orders", "Put")
ORDERS = Origin("shop", service="orders")


def reading(*methods: Method) -> Reading:
    return Reading(Schema.of(methods))


def told(
    state: State,
    *methods: Method,
    by: str = "orders",
    at: timedelta = timedelta(),
    size: int = 10,
    undescribed: tuple[str, ...] = (),
) -> State:
    """The state after a workload has told that it has these methods."""
    digest = "/".join([by, *(method.path for method in methods)])
    offer = Offer(Source.REFLECTION, digest, size, NOON + at, undescribed)
    return observed(state, "shop", by, offer, reading(*methods), NOON + at)


def silent(state: State, at: timedelta = timedelta(), problem: str = "no reflection") -> State:
    return observed(state, "shop", "orders", Offer(Source.REFLECTION, "", 0, NOON + at, (), problem), reading(), LATER)


def push(
    state: State, *methods: Method, origin: Origin = ORDERS, size: int = 10, allow_unresolved: bool = False
) -> State:
    digest = "/".join(["push", origin.version, *(method.path for method in methods)])
    offer = Offer(Source.PUSH, digest, size, NOON)
    return pushed(state, origin, offer, reading(*methods), NOON, allow_unresolved=allow_unresolved)


def methods(state: State, version: str = "") -> tuple[Method, ...] | None:
    schema = state.topology().schema("shop", "orders", version)
    return schema.methods if schema else None


@pytest.fixture
def state() -> State:
    """`orders` v1, and `canary`, which is v2 of it."""
    return applied(State(), workload(), workload("canary", "service: orders, version: v2")).state


def test_what_workloads_tell_is_known_of_their_versions(state: State) -> None:
    state = told(told(state, GET), GET, PUT, by="canary")

    assert methods(state, "v1") == (GET,)
    assert methods(state, "v2") == methods(state) == (GET, PUT)


def test_what_was_pushed_for_a_version_comes_first_then_what_was_pushed_for_all(state: State) -> None:
    state = told(told(state, GET), GET, by="canary")
    state = push(state, PUT)
    assert (methods(state, "v1"), methods(state, "v2")) == ((PUT,), (PUT,))

    state = push(state, GET, PUT, origin=replace(ORDERS, version="v2"))
    assert (methods(state, "v1"), methods(state, "v2")) == ((PUT,), (GET, PUT))

    state = forgotten(forgotten(state, ORDERS), replace(ORDERS, version="v2"))
    assert (methods(state, "v1"), methods(state, "v2")) == ((GET,), (GET,))


def test_workloads_of_one_version_tell_it_together() -> None:
    state = applied(State(), workload(), workload("more", "service: orders")).state

    state = told(state, GET)
    schema = state.topology().schema("shop", "orders")
    assert schema == Schema((GET,), complete=False)

    state = told(state, PUT, by="more")
    assert state.topology().schema("shop", "orders") == Schema((GET, PUT))


def test_an_older_offer_changes_nothing_so_that_agents_may_repeat_themselves(state: State) -> None:
    state = told(state, PUT, at=timedelta(seconds=5))

    assert told(state, GET, at=timedelta(seconds=4)) is state
    assert methods(told(state, GET, at=timedelta(seconds=6)), "v1") == (GET,)


def test_since_when_a_schema_is_known_stays_while_it_is_the_same(state: State) -> None:
    state = told(told(state, GET), GET, at=timedelta(minutes=1))
    known = state.known[Origin("shop", "orders")]
    assert (known.since, known.offer.read_at) == (NOON, NOON + timedelta(minutes=1))

    state = told(state, PUT, at=timedelta(minutes=2))
    assert state.known[Origin("shop", "orders")].since == NOON + timedelta(minutes=2)


def test_a_service_that_tells_nothing_any_more_keeps_what_it_told_and_says_why(state: State) -> None:
    state = silent(told(state, GET), at=timedelta(seconds=1))

    assert state.topology().schema("shop", "orders", "v1") == Schema((GET,), complete=False), "it may have more now"
    assert state.known[Origin("shop", "orders")].problems == ("no reflection",)
    assert told(state, GET, at=timedelta(seconds=2)).topology().schema("shop", "orders", "v1") == Schema((GET,))


def test_a_service_that_never_told_anything_has_no_schema(state: State) -> None:
    state = silent(state)

    assert methods(state) is None
    assert state.known[Origin("shop", "orders")].problems == ("no reflection",)


def test_a_service_that_hides_one_of_its_services_is_not_complete(state: State) -> None:
    state = told(state, GET, undescribed=("shop.v1.Dark",))

    schema = state.topology().schema("shop", "orders", "v1")
    assert schema == Schema((GET,), complete=False)
    assert state.known[Origin("shop", "orders")].problems == ("shop.v1.Dark is not described",)


def test_a_workload_that_is_not_there_tells_nothing(state: State) -> None:
    assert told(state, GET, by="gone") is state


def test_what_a_workload_told_goes_with_it_and_what_was_pushed_stays(state: State) -> None:
    state = push(told(told(state, GET), GET, by="canary"), PUT)

    after = documents.delete(state, [Key("Workload", "shop", "canary")]).state
    assert set(after.known) == {Origin("shop", "orders"), ORDERS}

    after = filed(State(known=after.known), workload("other")).state
    assert set(after.known) == {ORDERS}


def test_a_version_that_does_not_speak_grpc_has_nothing_to_tell() -> None:
    page = PAGE.format(version="v2")
    state = applied(State(), workload(), page).state

    assert told(told(state, GET), PUT, by="page").topology().schema("shop", "orders", "v2") is None


PAGE = (
    "apiVersion: proa.mesh/v1alpha1\nkind: Workload\nmetadata: {{name: page, namespace: shop}}\n"
    "spec: {{command: [serve], service: orders, version: {version}, ports: [{{port: 80, appProtocol: http}}]}}\n"
)


def test_descriptors_are_bounded_altogether(state: State) -> None:
    half = MOST_BYTES // 2 + 1
    state = told(state, GET, size=half)

    refused = told(state, PUT, by="canary", size=half, undescribed=("shop.v1.Dark",))
    assert methods(refused, "v2") is None
    assert refused.known[Origin("shop", "canary")].problems == ("all descriptors together have more than 256 MiB",)
    with pytest.raises(LimitError, match="more than 256 MiB"):
        push(state, PUT, size=half)


def test_one_content_counts_once_however_many_have_it(state: State) -> None:
    offer = Offer(Source.REFLECTION, "same", MOST_BYTES, NOON)
    for by in ("orders", "canary"):
        state = observed(state, "shop", by, offer, reading(GET), NOON)

    assert (methods(state, "v1"), methods(state, "v2")) == ((GET,), (GET,))


@pytest.mark.parametrize(
    ("origin", "error"),
    [
        (Origin("shop", service="oders"), r"^shop/oders: there is no such service\. Did you mean shop/orders\?$"),
        (
            Origin("x", service="y"),
            r"^x/y: there is no such service\. Services: shop/orders\. Before it is there: --allow-unresolved$",
        ),
        (
            replace(ORDERS, version="v3"),
            r"^shop/orders: it has no version v3\. Its versions: v1, v2\. Before it is there: --allow-unresolved$",
        ),
        (replace(ORDERS, version="v2x"), r"^shop/orders: it has no version v2x\. Did you mean v2\?$"),
    ],
)
def test_a_push_for_what_is_not_there_is_refused_with_the_nearest_name(
    state: State, origin: Origin, error: str
) -> None:
    with pytest.raises(NotFoundError, match=error):
        push(state, GET, origin=origin)


def test_what_is_pushed_before_it_is_there_counts_when_it_comes() -> None:
    pay = Origin("shop", service="pay", version="v2")
    state = push(push(State(), GET, origin=pay, allow_unresolved=True), PUT, allow_unresolved=True)
    assert state.topology().services == {}

    state = applied(state, workload("pay-v2", "service: pay, version: v2"), workload()).state

    assert state.topology().schema("shop", "pay") == Schema((GET,))
    assert methods(state) == (PUT,)


@pytest.mark.parametrize("name", ["", "Pay", "a b", "x" * 64, "\x1b[2J", "pay\n"])
def test_what_is_not_there_needs_a_name_that_it_could_have(state: State, name: str) -> None:
    for origin in (Origin("shop", service=name), Origin(name or "-", service="pay"), Origin("s", "", "a", name or "-")):
        with pytest.raises(UsageError, match="cannot be the name of a service"):
            push(state, GET, origin=origin, allow_unresolved=True)


def test_pushes_are_bounded_also_when_all_have_one_content(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "MOST_PUSHES", 2)
    state = push(push(state, GET, origin=Origin("a", service="a"), allow_unresolved=True), GET)

    assert push(state, PUT) != state, "what replaces another one is no more"
    with pytest.raises(LimitError, match="more than 2"):
        push(state, GET, origin=Origin("b", service="b"), allow_unresolved=True)


def test_a_push_without_a_method_is_refused(state: State) -> None:
    with pytest.raises(UsageError, match=r"no method can be read from it \(it has no service\)"):
        push(state)
    bad = Reading(Schema(), ("it is no FileDescriptorSet",))
    with pytest.raises(UsageError, match=r"\(it is no FileDescriptorSet\)"):
        pushed(state, ORDERS, Offer(Source.PUSH, "x", 1, NOON), bad, NOON, allow_unresolved=False)


def test_what_was_not_pushed_cannot_be_forgotten(state: State) -> None:
    with pytest.raises(
        NotFoundError, match=r"^shop/orders: nothing was pushed for it\. Nothing was pushed for any service$"
    ):
        forgotten(state, ORDERS)


def test_a_reading_is_found_by_its_digest(state: State) -> None:
    state = told(state, GET)

    assert schemas.reading_of(state, "orders//shop.v1.Orders/Get") == reading(GET)
    assert schemas.reading_of(state, "other") is None
    assert schemas.reading_of(silent(state), "") is None
