"""`proa apply --wait`: done when the proxies have it, and else who has not."""

import os
import signal

import pytest

from tests.mesh.running import RETRY, RunningMesh

pytestmark = pytest.mark.envoy

ORDERS = "bookstore/orders/orders-0"
POLICY = "BackendTrafficPolicy/bookstore/inventory-retry"


def test_apply_waits_for_the_proxies_and_names_those_that_do_not_answer(shared: RunningMesh) -> None:
    mesh = shared
    apply = ("apply", "-f", str(RETRY), "--wait")
    envoy = mesh.instance("orders")["envoy"]["pid"]
    os.kill(envoy, signal.SIGSTOP)
    try:
        late = mesh.proa(*apply, "--timeout", "2s")
    finally:
        os.kill(envoy, signal.SIGCONT)
    done = mesh.proa(*apply)

    assert (late.returncode, late.stdout) == (1, f"{POLICY} created\n"), "it is applied nevertheless"
    *progress, error = late.stderr.splitlines()
    assert progress[-1] == f"{POLICY}: waiting for {ORDERS}", "others may have been waited for before"
    assert error.startswith(f"error: proa apply: not every proxy has it after 2 s: {POLICY}: waiting for {ORDERS}. ")
    assert (done.returncode, done.stdout) == (0, f"{POLICY} unchanged\n")
    assert done.stderr.splitlines()[-1].startswith("every proxy concerned has it after ")
    assert mesh.proa("delete", "-f", str(RETRY)).returncode == 0


def test_apply_does_not_wait_for_what_was_not_applied(shared: RunningMesh) -> None:
    refused = shared.proa("apply", "-f", "-", "--wait", text="kind: Nothing\n")

    assert refused.returncode == 2
    assert "every proxy" not in refused.stderr
