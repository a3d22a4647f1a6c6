"""What gRPC clients without a sidecar do of policies, and which services they may call."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mesh.model.names import Target
from mesh.model.route import GrpcMatch, HeaderChange, Rule
from mesh.model.shape import client_shape
from mesh.model.topology import topology_of
from mesh.model.traffic import Affinity, BackendTrafficPolicy, MethodPolicy, PolicyTarget, Retry, Timeouts
from mesh.policy.grpc_client import beyond_clients, client_retry, route_beyond_clients
from mesh.policy.retry import HARMLESS, RetryPolicy
from mesh.policy.routing import Copies, Route, Share
from mesh.policy.view import view_for
from tests.builders import a_workload, documents

SHOP = documents(
    a_workload("web", "ports: [{port: 80, appProtocol: http}, {port: 81}]"),
    a_workload("stock", "ports: [{port: 1}, {port: 2, appProtocol: tcp}, {port: 3, appProtocol: http2}]"),
    a_workload("mail", "port: 25", namespace="office"),
)


STATUSES = ("cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable")


def test_a_client_may_call_whatever_speaks_grpc_in_any_namespace() -> None:
    view = view_for(client_shape("office"), topology_of(SHOP), SHOP)
    called = [Target("office", "mail", 25), Target("shop", "stock", 1), Target("shop", "web", 81)]

    assert [destination.target for destination in view.destinations] == called
    assert [host.target for host in view.virtual_hosts] == called
    assert view.inbound == ()


def test_a_short_name_means_the_namespace_of_the_client() -> None:
    mail, stock, web = view_for(client_shape("office"), topology_of(SHOP), SHOP).virtual_hosts

    assert {"mail", "mail:25", "mail.office", "mail.office.svc:25", "mail.office.svc.cluster.local"} <= set(mail.hosts)
    assert "stock" not in stock.hosts
    assert {"stock.shop", "stock.shop.svc.cluster.local:1"} <= set(stock.hosts)
    assert "web.shop" not in web.hosts, "its first port is another one"


@pytest.mark.parametrize(
    ("retry", "done"),
    [
        pytest.param(None, None, id="never"),
        pytest.param(RetryPolicy(), None, id="what it does by itself"),
        pytest.param(
            RetryPolicy(triggers=HARMLESS), RetryPolicy(triggers=("unavailable",)), id="of the conditions, the statuses"
        ),
        pytest.param(
            RetryPolicy(triggers=("reset", *STATUSES)),
            RetryPolicy(triggers=STATUSES),
            id="every status that it retries",
        ),
        pytest.param(
            RetryPolicy(triggers=("internal",), num_retries=9),
            RetryPolicy(triggers=("internal",), num_retries=4),
            id="as often as it can",
        ),
        pytest.param(
            RetryPolicy(triggers=("cancelled",), per_try_timeout=timedelta(seconds=1)),
            RetryPolicy(triggers=("cancelled",)),
            id="without a limit of one attempt",
        ),
    ],
)
def test_of_a_retry_policy_a_client_is_told_what_it_can_do(retry: RetryPolicy | None, done: RetryPolicy | None) -> None:
    assert client_retry(retry) == done


CAN = Retry(num_retries=4, triggers=("reset", "unavailable"), base_interval=timedelta(seconds=1))


@pytest.mark.parametrize(
    ("retry", "said"),
    [
        pytest.param(CAN, [], id="all of it"),
        pytest.param(replace(CAN, per_try_timeout=timedelta(seconds=1)), ["retry.perRetry.timeout"], id="one attempt"),
        pytest.param(replace(CAN, num_retries=5), ["retry.numRetries 5"], id="too often"),
        pytest.param(replace(CAN, triggers=("reset",)), ["retry.retryOn reset"], id="a reset alone"),
        pytest.param(Retry(disabled=True), ["retry.disabled"], id="not at all"),
        pytest.param(
            Retry(num_retries=10, per_try_timeout=timedelta(seconds=1)),
            ["retry.perRetry.timeout", "retry.numRetries 10"],
            id="a line for each",
        ),
    ],
)
def test_what_a_client_cannot_do_is_named(retry: Retry, said: list[str]) -> None:
    method = MethodPolicy("shop.v1.Stock", "Get", retry=retry)

    assert [line.partition(":")[0] for line in beyond_clients(a_policy(retry=retry))] == said
    assert all(line.startswith("shop.v1.Stock/Get: retry") for line in beyond_clients(a_policy(methods=(method,))))


def test_what_else_a_client_cannot_do_is_named() -> None:
    second = timedelta(seconds=1)
    [idle] = beyond_clients(a_policy(timeouts=Timeouts(request=second, stream_idle=second)))
    [cookie] = beyond_clients(a_policy(affinity=Affinity(cookie="session")))

    assert idle.startswith("timeouts.streamIdle")
    assert cookie.startswith("loadBalancer.consistentHash by a cookie")
    assert list(beyond_clients(a_policy(affinity=Affinity(header="x-user")))) == []
    assert list(beyond_clients(a_policy(timeouts=Timeouts(request=second)))) == []


def test_what_of_a_route_a_client_does_not_do_is_named() -> None:
    changed = HeaderChange(remove=("x-debug",))
    to = Share(Target("shop", "stock", 1))

    assert list(route_beyond_clients(Route(GrpcMatch(), (to,)))) == []
    for route in (
        Route(GrpcMatch(), (replace(to, request_headers=changed),)),
        Route(GrpcMatch(), (to,), rule=Rule(matches=(), response_headers=changed)),
    ):
        assert list(route_beyond_clients(route)) == ["a gRPC client changes no headers"]
    copied = Route(GrpcMatch(), (to,), copies=(Copies(Target("shop", "mail", 1), 1, 100),))
    assert list(route_beyond_clients(copied)) == ["a gRPC client sends no copies"]


def test_a_policy_that_says_nothing_asks_for_nothing() -> None:
    assert list(beyond_clients(a_policy())) == []


def a_policy(**says: Any) -> BackendTrafficPolicy:
    return BackendTrafficPolicy("shop", "p", "p.yaml:1", (PolicyTarget("stock"),), **says)
