"""What is known of methods, as the API says it."""

from datetime import timedelta

import pytest

from mesh.api.proa.v1 import schema_pb2
from mesh.controlplane.schema_view import service_schema
from mesh.model.descriptors import Reading
from mesh.model.schema import CallOptions, Method, RateLimit, Schema
from mesh.model.traffic import Retry, Timeouts
from mesh.registry.known import Offer, Origin, Source
from mesh.registry.schemas import observed, pushed
from mesh.registry.state import State
from tests.unit.registry.builders import NOON, applied, workload


def test_how_a_push_differs_is_said_but_for_what_nobody_pushes() -> None:
    get, put, check = Method("s.S", "Get"), Method("s.S", "Put"), Method("grpc.health.v1.Health", "Check")
    state = applied(State(), workload()).state
    offer = Offer(Source.REFLECTION, "told", 10, NOON)
    state = observed(state, "shop", "orders", offer, Reading(Schema.of([get, check])), NOON)
    for schema, digest in ((Schema.of([get]), "same"), (Schema.of([put]), "other")):
        origin, offer = Origin("shop", service="orders"), Offer(Source.PUSH, digest, 10, NOON)
        state = pushed(state, origin, offer, Reading(schema), NOON, allow_unresolved=False)
        topology = state.topology()
        service = topology.services["shop", "orders"]
        found = service_schema(service, state.documents().workloads, [origin], state.known, topology)
        assert [(one.workload, one.overridden) for one in found.versions] == [("", False), ("orders", True)]
        differences = found.versions[1].differences
        assert list(differences) == (
            [] if digest == "same" else ["s.S/Get is there, and was not pushed", "s.S/Put was pushed, and is not there"]
        )


def test_a_service_that_never_told_anything_has_not_told_it_since_a_time() -> None:
    state = applied(State(), workload()).state
    state = observed(state, "shop", "orders", Offer(Source.REFLECTION, "", 0, NOON), Reading(Schema()), NOON)
    topology = state.topology()

    found = service_schema(topology.services["shop", "orders"], state.documents().workloads, (), state.known, topology)

    assert not found.versions[0].HasField("since")


def shown(*methods: Method) -> schema_pb2.ServiceSchema:
    """The service `orders`, whose workload has told these methods."""
    state = applied(State(), workload()).state
    offer = Offer(Source.REFLECTION, "abc", 10, NOON)
    state = observed(state, "shop", "orders", offer, Reading(Schema.of(methods)), NOON)
    topology = state.topology()
    service = topology.service("shop", "orders")
    assert service is not None
    return service_schema(service, state.documents().workloads, (), state.known, topology)


def said(method: Method) -> dict[str, tuple[str, bool]]:
    return {option.name: (option.value, option.service) for option in shown(method).methods[0].options}


def test_what_a_proto_says_is_told_in_the_words_of_documents() -> None:
    second = timedelta(seconds=1)
    retry = Retry(False, 2, ("reset", "unavailable"), second / 4, second / 100, 90 * second)
    options = CallOptions(Timeouts(second, 3600 * second, second / 1_000_000), retry, RateLimit(5, second), ("a", "b"))

    assert said(Method("s.S", "M", options=options)) == {
        "authorization.callers": ("a,b", False),
        "rateLimit": ("5/1s", False),
        "retry.disabled": ("false", False),
        "retry.numRetries": ("2", False),
        "retry.perRetry.backOff.baseInterval": ("10ms", False),
        "retry.perRetry.backOff.maxInterval": ("1m30s", False),
        "retry.perRetry.timeout": ("250ms", False),
        "retry.retryOn.triggers": ("reset,unavailable", False),
        "timeouts.maxStreamDuration": ("1e-06s", False),
        "timeouts.request": ("1s", False),
        "timeouts.streamIdle": ("1h", False),
    }


def test_what_a_method_says_for_itself_hides_what_its_service_says() -> None:
    second = timedelta(seconds=1)
    service = CallOptions(Timeouts(request=second), Retry(disabled=True))
    method = Method("s.S", "M", options=CallOptions(Timeouts(request=2 * second)), service_options=service)

    assert said(method) == {"retry.disabled": ("true", True), "timeouts.request": ("2s", False)}


@pytest.mark.parametrize("methods", [(), (Method("s.S", "M"),)])
def test_a_service_is_shown_with_where_its_methods_are_known_from(methods: tuple[Method, ...]) -> None:
    found = shown(*methods)

    (version,) = found.versions
    assert (version.version, version.workload, version.source) == ("v1", "orders", schema_pb2.SCHEMA_SOURCE_REFLECTION)
    assert [list(method.versions) for method in found.methods] == [["v1"] for _ in methods]
