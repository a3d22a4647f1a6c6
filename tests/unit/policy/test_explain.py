"""What holds for one method, and who says so."""

from datetime import timedelta

import pytest

from mesh.errors import NotFoundError
from mesh.model.schema import Idempotency, Method, Schema
from mesh.model.topology import topology_of
from mesh.policy.explain import Explained, explained
from tests.builders import a_policy, a_workload, documents

PLACE = Method("shop.v1.Orders", "Place")
READ = Method("shop.v1.Orders", "Get", idempotency=Idempotency.NO_SIDE_EFFECTS)
WATCH = Method("shop.v1.Orders", "Watch", server_streaming=True)
SHOP = (
    a_workload("orders"),
    a_workload("orders", namespace="office"),
    a_workload("mail"),
    a_workload("web", "ports: [{port: 80, appProtocol: http}]"),
)


def explain(service: str, method: str, *texts: str, namespace: str = "shop") -> tuple[Explained, ...]:
    mesh = documents(*SHOP, *texts)
    schema = Schema.of([PLACE, READ, WATCH])
    topology = topology_of(mesh, {(space, "orders", "v1"): schema for space in ("shop", "office")})
    return explained(service, method, namespace, topology, mesh)


def values(found: Explained) -> dict[str, tuple[object, str]]:
    return {field: (one.value, one.place) for field, one in found.values}


def test_without_a_policy_the_proto_decides() -> None:
    [read] = explain("shop.v1.Orders", "Get")

    assert (read.path, read.method, read.remark) == ("/shop.v1.Orders/Get", READ, "")
    assert values(read) == {
        "timeouts.request": (timedelta(seconds=60), "built-in"),
        "retry.num_retries": (2, "built-in"),
        "retry.triggers": (("connect-failure", "refused-stream", "reset", "unavailable"), "built-in, by the proto"),
        "retry.per_try_timeout": (None, "built-in"),
        "retry.base_interval": (timedelta(milliseconds=50), "built-in"),
        "retry.max_interval": (timedelta(milliseconds=500), "built-in"),
    }


def test_a_policy_is_named_with_its_place_and_what_it_does_not_get_is_said() -> None:
    spec = (
        "{targetRefs: [{kind: Service, name: orders}], timeouts: {request: 2s, streamIdle: 0s},"
        "retry: {retryOn: {triggers: [unavailable, connect-failure]}},"
        "methods: [{method: {service: shop.v1.Orders, method: Watch}, retry: {disabled: true}}]}"
    )

    [place] = explain("orders", "Place", a_policy("p", spec))
    [watch] = explain("orders", "shop.v1.Orders/Watch", a_policy("p", spec))

    of_policy = "BackendTrafficPolicy p (mesh.yaml:21)"
    assert values(place)["timeouts.request"] == (timedelta(seconds=2), of_policy)
    assert values(place)["retry.triggers"] == (("connect-failure",), of_policy)
    assert place.remark == (
        "unavailable is left out: it can run a call twice, which neither the proto nor allowUnsafe permits"
    )
    assert values(watch) == {
        "timeouts.stream_idle": (None, of_policy),
        "timeouts.max_stream_duration": (None, "built-in"),
        "retry.disabled": (True, f"{of_policy}, methods"),
    }


def test_a_method_is_explained_for_each_service_that_has_it() -> None:
    assert [found.target.namespace for found in explain("shop.v1.Orders", "Get", namespace="")] == ["office", "shop"]


def test_a_method_of_a_service_without_a_schema_is_one_of_which_nothing_is_known() -> None:
    [found] = explain("mail", "shop.v1.Mail/Send")

    assert (found.method, values(found)["timeouts.stream_idle"][0]) == (None, timedelta(hours=1))
    assert values(found)["retry.triggers"] == (
        ("connect-failure", "refused-stream", "reset-before-request"),
        "built-in",
    )


@pytest.mark.parametrize(
    ("service", "method", "remedy"),
    [
        ("shop.v1.Orders", "Plase", "Did you mean shop.v1.Orders/Place?"),
        ("shop.v1.Ordrs", "Place", "Did you mean shop.v1.Orders/Place?"),
        (
            "zebra.Zoo",
            "Feed",
            "gRPC services that are known: shop.v1.Orders. Not known are those of mail; name one as ",
        ),
        ("orders", "Feed", "Did you mean shop.v1.Orders?"),
        ("orders", "shop.v1.Orders/Feed", "Did you mean shop.v1.Orders?"),
        ("mail", "Send", "gRPC services that are known"),
        ("web", "Get", "gRPC services that are known"),
    ],
)
def test_what_nothing_has_gets_the_nearest_name(service: str, method: str, remedy: str) -> None:
    with pytest.raises(NotFoundError) as refused:
        explain(service, method)

    assert remedy in refused.value.remedy
