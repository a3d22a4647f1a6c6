"""How long calls may take and when they are tried again: who decides which field, method by method."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mesh.model.documents import Documents, Mesh
from mesh.model.names import Target
from mesh.model.schema import CallOptions, Idempotency, Method, Schema
from mesh.model.topology import ServicePort
from mesh.model.traffic import Affinity, BackendTrafficPolicy, MethodPolicy, PolicyTarget, Retry, Timeouts
from mesh.model.workload import Protocol
from mesh.policy.calls import CallPolicy, affinity_of, calls_to, decided, said
from mesh.policy.retry import HARMLESS, SAFE, RetryPolicy, policies_for

TARGET = Target("shop", "stock", 50051)
GRPC = ServicePort(50051, "grpc", Protocol.GRPC)
HTTP = ServicePort(80, "http", Protocol.HTTP)
SERVICE, PORT = PolicyTarget("stock"), PolicyTarget("stock", "grpc")
MINUTE, HOUR, SECOND = timedelta(minutes=1), timedelta(hours=1), timedelta(seconds=1)

READ = Method("s.S", "Read", idempotency=Idempotency.NO_SIDE_EFFECTS)
SAME = Method("s.S", "Same", idempotency=Idempotency.IDEMPOTENT)
WRITE = Method("s.S", "Write")
WATCH = Method("s.S", "Watch", server_streaming=True, idempotency=Idempotency.NO_SIDE_EFFECTS)
SEND = Method("s.S", "Send", client_streaming=True)


def a_policy(
    name: str, retry: Retry | None = None, target: PolicyTarget = SERVICE, created: str = "",
    timeouts: Timeouts | None = None, methods: tuple[MethodPolicy, ...] = (), affinity: Affinity | None = None
) -> BackendTrafficPolicy:  # fmt: skip
    return BackendTrafficPolicy("shop", name, f"{name}.yaml:1", (target,), retry, created, timeouts, methods, affinity)


def policy(
    *policies: BackendTrafficPolicy, of: Method | None = None, port: ServicePort = GRPC, mesh: Mesh | None = None
) -> CallPolicy:
    """Of one method, which is not in the schema when it is None."""
    documents = Documents(mesh=mesh or Mesh(), traffic_policies=policies)
    calls = calls_to(TARGET, port, documents, Schema.of([of]) if of else None)
    return dict(calls.methods).get(of.path, calls.otherwise) if of else calls.otherwise


def retry(*policies: BackendTrafficPolicy, of: Method | None = None) -> RetryPolicy | None:
    return policy(*policies, of=of).retry


def test_the_default_follows_the_descriptor() -> None:
    assert policy(of=READ) == policy(of=SAME) == CallPolicy(MINUTE, None, RetryPolicy(triggers=HARMLESS))
    assert policy(of=WRITE) == CallPolicy(MINUTE, None, RetryPolicy(triggers=SAFE))
    assert policy(of=WATCH) == policy(of=SEND) == policy() == CallPolicy(None, HOUR, RetryPolicy(triggers=SAFE))
    assert policy(port=HTTP) == CallPolicy(None, None, RetryPolicy(triggers=SAFE))


def test_methods_without_a_policy_of_their_own_are_not_listed() -> None:
    calls = calls_to(TARGET, GRPC, Documents(), Schema.of([WRITE, WATCH, SEND]))

    assert [path for path, _ in calls.methods] == [WRITE.path]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(a_policy("p"), id="says nothing of retries"),
        pytest.param(a_policy("p", Retry(disabled=True), PolicyTarget("other")), id="another service"),
        pytest.param(a_policy("p", Retry(disabled=True), PolicyTarget("stock", "http")), id="another port"),
        pytest.param(replace(a_policy("p", Retry(disabled=True)), namespace="elsewhere"), id="another namespace"),
    ],
)
def test_a_policy_that_does_not_apply_changes_nothing(other: BackendTrafficPolicy) -> None:
    assert retry(other) == RetryPolicy()


def test_what_a_policy_says_counts() -> None:
    all_of_it = Retry(None, 5, ("reset",), SECOND, 2 * SECOND, 3 * SECOND, allow_unsafe=True)

    assert retry(a_policy("p", all_of_it), of=WRITE) == RetryPolicy(5, ("reset",), SECOND, 2 * SECOND, 3 * SECOND)
    assert retry(a_policy("p", Retry(disabled=True, num_retries=3))) is None


def test_what_could_run_a_call_twice_is_tried_only_where_that_is_harmless_or_allowed() -> None:
    asked = ("connect-failure", "unavailable")

    def triggers(of: Method | None, *, allowed: bool | None = None, triggers: tuple[str, ...] = asked) -> object:
        found = retry(a_policy("p", Retry(triggers=triggers, allow_unsafe=allowed)), of=of)
        return found and found.triggers

    assert triggers(READ) == triggers(SAME) == triggers(WRITE, allowed=True) == triggers(None, allowed=True) == asked
    assert triggers(WRITE) == triggers(None) == triggers(SEND) == ("connect-failure",)
    assert triggers(WRITE, triggers=("unavailable",)) == SAFE


def test_who_is_more_specific_decides_field_by_field() -> None:
    """Built-in < Mesh < proto service < proto method < policy of the service < of its port < their methods."""
    mesh = Mesh(timeouts=Timeouts(request=1 * SECOND), retry=Retry(num_retries=1))
    method = replace(
        WRITE,
        service_options=CallOptions(timeouts=Timeouts(request=2 * SECOND), retry=Retry(num_retries=2)),
        options=CallOptions(timeouts=Timeouts(request=3 * SECOND), retry=Retry(num_retries=3)),
    )
    of_method = MethodPolicy("s.S", "Write", Timeouts(request=6 * SECOND), Retry(num_retries=6))
    of_service = a_policy("a", Retry(num_retries=4), timeouts=Timeouts(request=4 * SECOND))
    of_port = a_policy("z", Retry(num_retries=5), PORT, timeouts=Timeouts(request=5 * SECOND))
    with_method = replace(of_service, methods=(of_method,))

    def both(*policies: BackendTrafficPolicy, of: Method = method, mesh: Mesh = mesh) -> tuple[float, int]:
        found = policy(*policies, of=of, mesh=mesh)
        assert found.deadline
        assert found.retry
        return found.deadline.total_seconds(), found.retry.num_retries

    assert both(of=WRITE, mesh=Mesh()) == (60, 2)
    assert both(of=WRITE) == (1, 1)
    assert both(of=replace(method, options=CallOptions())) == (2, 2)
    assert both() == (3, 3)
    assert both(of_service) == (4, 4)
    assert both(of_service, of_port) == both(of_port, of_service) == (5, 5)
    assert both(with_method, of_port) == (6, 6)
    assert both(a_policy("p", Retry(num_retries=9))) == (3, 9)


def test_a_port_may_switch_on_what_its_service_switches_off() -> None:
    of_service = a_policy("a", Retry(disabled=True))

    assert retry(of_service, a_policy("b", Retry(num_retries=1), PORT)) is None
    assert retry(of_service, a_policy("b", Retry(disabled=False), PORT)) == RetryPolicy()


def test_of_two_policies_for_one_target_the_older_decides_then_the_first_by_name() -> None:
    older = a_policy("z", Retry(num_retries=1), created="2026-01-01T00:00:00Z")
    newer = a_policy("a", Retry(num_retries=2, max_interval=HOUR), created="2026-01-02T00:00:00Z")

    assert retry(newer, older) == RetryPolicy(num_retries=1, max_interval=HOUR)
    assert retry(a_policy("b", Retry(num_retries=2)), a_policy("a", Retry(num_retries=1))) == RetryPolicy(num_retries=1)


def test_request_is_for_unary_calls_and_the_others_for_streams() -> None:
    all_of_them = a_policy("p", timeouts=Timeouts(SECOND, 2 * SECOND, 3 * SECOND))

    assert policy(all_of_them, of=WRITE) == CallPolicy(SECOND, None)
    assert policy(all_of_them, of=WATCH) == CallPolicy(3 * SECOND, 2 * SECOND)
    assert policy(all_of_them) == CallPolicy(3 * SECOND, 2 * SECOND)
    assert policy(all_of_them, port=HTTP) == CallPolicy(SECOND, None)


def test_a_method_of_which_nothing_is_known_is_limited_by_who_names_it() -> None:
    named = a_policy("p", methods=(MethodPolicy("s.S", "Write", Timeouts(request=SECOND)),))

    calls = calls_to(TARGET, GRPC, Documents(traffic_policies=(named,)), None)

    assert calls.methods == ((WRITE.path, CallPolicy(SECOND, None)),)
    assert calls.otherwise == CallPolicy(None, HOUR)


def test_what_a_try_may_take_is_for_unary_calls_unless_a_stream_is_named() -> None:
    """A stream that is silent at first would be cut."""
    limited = Retry(per_try_timeout=SECOND)
    of_all, of_watch = a_policy("p", limited), MethodPolicy("s.S", "Watch", retry=limited)
    in_proto = CallOptions(retry=limited)

    def per_try(of: Method | None, *policies: BackendTrafficPolicy, mesh: Mesh | None = None) -> timedelta | None:
        found = policy(*policies, of=of, mesh=mesh).retry
        assert found
        return found.per_try_timeout

    assert per_try(WRITE, of_all) == per_try(READ, mesh=Mesh(retry=limited)) == SECOND
    assert per_try(WATCH, of_all) is per_try(None, of_all) is per_try(WATCH, mesh=Mesh(retry=limited)) is None
    assert per_try(replace(WATCH, service_options=in_proto)) is None
    assert per_try(replace(WATCH, options=in_proto)) == per_try(WATCH, a_policy("p", methods=(of_watch,))) == SECOND


def test_zero_switches_a_timeout_off() -> None:
    none = a_policy("p", timeouts=Timeouts(timedelta(), timedelta(), timedelta()))

    assert policy(none, of=WRITE) == policy(none, of=WATCH) == CallPolicy(None, None)


@pytest.mark.parametrize(
    ("said_of", "base", "longest"),
    [
        (Retry(base_interval=SECOND), SECOND, 10 * SECOND),
        (Retry(max_interval=timedelta(milliseconds=10)), timedelta(milliseconds=10), timedelta(milliseconds=10)),
        (Retry(base_interval=timedelta(milliseconds=1)), timedelta(milliseconds=1), timedelta(milliseconds=500)),
    ],
)
def test_the_two_ends_of_the_back_off_fit_each_other(said_of: Retry, base: timedelta, longest: timedelta) -> None:
    found = retry(a_policy("p", said_of))

    assert found
    assert (found.base_interval, found.max_interval) == (base, longest)


def test_ends_of_the_back_off_from_two_places_fit_each_other() -> None:
    found = retry(a_policy("p", Retry(base_interval=HOUR)), a_policy("q", Retry(max_interval=SECOND), PORT))

    assert found
    assert (found.base_interval, found.max_interval) == (HOUR, HOUR)


def test_each_value_knows_who_decided_it() -> None:
    documents = Documents(
        mesh=Mesh(where="mesh.yaml:1", timeouts=Timeouts(stream_idle=SECOND)),
        traffic_policies=(
            a_policy("p", Retry(num_retries=3), methods=(MethodPolicy("s.S", "Read", retry=Retry(disabled=True)),)),
        ),
    )
    policies = policies_for("stock", "shop", GRPC, documents.traffic_policies)
    method = replace(READ, options=CallOptions(timeouts=Timeouts(request=SECOND)))

    found = decided(said(documents, policies, GRPC, ("s.S", "Read"), method))

    assert {name: one.place for name, one in found.items()} == {
        "timeouts.request": "proto, method option",
        "timeouts.stream_idle": "Mesh default (mesh.yaml:1)",
        "retry.num_retries": "BackendTrafficPolicy p (p.yaml:1)",
        "retry.disabled": "BackendTrafficPolicy p (p.yaml:1), methods",
    }


def test_calls_are_kept_together_as_the_policy_that_decides_says() -> None:
    by_header, by_cookie = Affinity(header="x-user"), Affinity(cookie="user", ttl=HOUR)
    policies = (a_policy("a", affinity=by_header), a_policy("z", target=PORT, affinity=by_cookie))

    assert affinity_of(TARGET, GRPC, Documents(traffic_policies=policies)) == by_cookie
    assert affinity_of(TARGET, HTTP, Documents(traffic_policies=policies)) == by_header
    assert affinity_of(TARGET, GRPC, Documents()) is None
