"""Explanations as the API tells them: in the words of a policy."""

from datetime import timedelta

from mesh.controlplane.explain import message
from mesh.model.names import Target
from mesh.model.schema import Method
from mesh.policy.calls import Decided
from mesh.policy.explain import Explained

TARGET = Target("shop", "orders", 50051)


def test_values_are_written_as_a_policy_writes_them() -> None:
    values = (
        ("timeouts.stream_idle", Decided(timedelta(seconds=90), "built-in")),
        ("timeouts.max_stream_duration", Decided(None, "built-in")),
        ("retry.triggers", Decided(("reset", "unavailable"), "p")),
        ("retry.num_retries", Decided(2, "p")),
        ("retry.disabled", Decided(True, "p")),
    )

    found = message(Explained(TARGET, "/a.B/C", Method("a.B", "C", server_streaming=True), values, "why"))

    assert [(one.field, one.value) for one in found.values] == [
        ("timeouts.streamIdle", "1m30s"), ("timeouts.maxStreamDuration", "none"),
        ("retry.retryOn.triggers", "reset, unavailable"), ("retry.numRetries", "2"), ("retry.disabled", "true"),
    ]  # fmt: skip
    assert (found.kind, found.idempotency, found.remark) == ("server streaming", "IDEMPOTENCY_UNKNOWN", "why")


def test_a_method_that_is_not_known_says_so() -> None:
    assert message(Explained(TARGET, "/a.B/C", None, ())).kind == "unknown"
