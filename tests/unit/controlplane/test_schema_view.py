"""What is known of methods, as the API says it."""

from datetime import timedelta

import pytest

from mesh.api.proa.v1 import schema_pb2
from mesh.controlplane.schema_view import service_schema
from mesh.model.descriptors import Reading
from mesh.model.schema import CallOptions, Method, RateLimit, Schema
from mesh.model.traffic import Retry, Timeouts
from mesh.registry.known import Offer, Source
from mesh.registry.schemas import observed
from mesh.registry.state import State
from tests.unit.registry.builders import NOON, applied, workload


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
