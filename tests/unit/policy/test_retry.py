"""Which policy decides which field."""

from datetime import timedelta

import pytest

from mesh.model.topology import ServicePort
from mesh.model.traffic import BackendTrafficPolicy, PolicyTarget, Retry
from mesh.model.workload import Protocol
from mesh.policy.retry import ASKED, SAFE, RetryPolicy, retry_policy

GRPC = ServicePort(50051, "grpc", Protocol.GRPC)
SERVICE = PolicyTarget("stock")
PORT = PolicyTarget("stock", "grpc")


def a_policy(name: str, retry: Retry | None, target: PolicyTarget = SERVICE, created: str = "") -> BackendTrafficPolicy:
    return BackendTrafficPolicy("shop", name, f"{name}.yaml:1", (target,), retry, created)


def decided(*policies: BackendTrafficPolicy) -> RetryPolicy | None:
    return retry_policy("stock", "shop", GRPC, policies)


def test_without_a_policy_only_what_cannot_have_been_processed_is_retried() -> None:
    assert decided() == RetryPolicy(num_retries=2, triggers=SAFE)


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(a_policy("p", None), id="says nothing of retries"),
        pytest.param(a_policy("p", Retry(disabled=True), PolicyTarget("other")), id="another service"),
        pytest.param(a_policy("p", Retry(disabled=True), PolicyTarget("stock", "http")), id="another port"),
        pytest.param(
            BackendTrafficPolicy("elsewhere", "p", "p.yaml:1", (SERVICE,), Retry(disabled=True)), id="another namespace"
        ),
    ],
)
def test_a_policy_that_does_not_apply_changes_nothing(policy: BackendTrafficPolicy) -> None:
    assert decided(policy) == RetryPolicy()


def test_a_policy_that_only_asks_for_retries_gets_the_usual_conditions() -> None:
    assert decided(a_policy("p", Retry())) == RetryPolicy(triggers=ASKED)


def test_what_a_policy_says_counts() -> None:
    retry = Retry(None, 5, ("reset",), timedelta(seconds=1), timedelta(seconds=2), timedelta(seconds=3))

    assert decided(a_policy("p", retry)) == RetryPolicy(
        5, ("reset",), timedelta(seconds=1), timedelta(seconds=2), timedelta(seconds=3)
    )


def test_disabled_switches_retries_off() -> None:
    assert decided(a_policy("p", Retry(disabled=True, num_retries=3))) is None


def test_a_policy_for_the_port_decides_before_one_for_the_service_field_by_field() -> None:
    of_service = a_policy("a", Retry(num_retries=1, triggers=("reset",)))
    of_port = a_policy("z", Retry(num_retries=9), PORT)

    assert decided(of_service, of_port) == RetryPolicy(num_retries=9, triggers=("reset",))


def test_a_port_may_switch_on_what_its_service_switches_off() -> None:
    of_service = a_policy("a", Retry(disabled=True))

    assert decided(of_service, a_policy("b", Retry(num_retries=1), PORT)) is None
    assert decided(of_service, a_policy("b", Retry(disabled=False), PORT)) == RetryPolicy(triggers=ASKED)


def test_of_two_policies_for_one_target_the_older_decides_then_the_first_by_name() -> None:
    older = a_policy("z", Retry(num_retries=1), created="2026-01-01T00:00:00Z")
    newer = a_policy("a", Retry(num_retries=2, triggers=("reset",)), created="2026-01-02T00:00:00Z")

    assert decided(newer, older) == RetryPolicy(num_retries=1, triggers=("reset",))
    assert decided(a_policy("b", Retry(num_retries=2)), a_policy("a", Retry(num_retries=1))) == RetryPolicy(
        num_retries=1, triggers=ASKED
    )


@pytest.mark.parametrize(
    ("said", "base_ms", "max_ms"),
    [
        pytest.param(
            Retry(base_interval=timedelta(milliseconds=100)), 100, 1000, id="base over a tenth of the maximum"
        ),
        pytest.param(Retry(base_interval=timedelta(milliseconds=10)), 10, 500, id="base under it"),
        pytest.param(Retry(max_interval=timedelta(milliseconds=20)), 20, 20, id="maximum below the default base"),
        pytest.param(Retry(max_interval=timedelta(seconds=9)), 50, 9000, id="maximum above it"),
    ],
)
def test_half_a_back_off_gets_a_fitting_other_half(said: Retry, base_ms: int, max_ms: int) -> None:
    policy = decided(a_policy("p", said))

    assert policy is not None
    assert (policy.base_interval, policy.max_interval) == (
        timedelta(milliseconds=base_ms),
        timedelta(milliseconds=max_ms),
    )
