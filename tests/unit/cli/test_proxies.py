"""What `proa proxy-status` says below its table."""

from datetime import UTC, datetime, timedelta

import pytest

from mesh.api.proa.v1 import documents_pb2, status_pb2
from mesh.cli.proxies import news, only
from mesh.errors import NotFoundError

NOW = datetime(2026, 11, 20, tzinfo=UTC)
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
RETRY = documents_pb2.DocumentKey(kind="BackendTrafficPolicy", namespace="shop", name="retry")


def said(*proxies: status_pb2.Proxy, refused_streams: tuple[status_pb2.RefusedStreams, ...] = ()) -> list[str]:
    return news(status_pb2.ListProxiesResponse(proxies=proxies, refused_streams=refused_streams), NOW)


def refusing(**refused: str) -> status_pb2.Proxy:
    documents = [status_pb2.DocumentSource(key=RETRY, where="retry.yaml:1")]
    resource = status_pb2.RefusedResource(name="outbound", documents=documents, **refused)
    return status_pb2.Proxy(node_id="shop/web/web-0", types=[status_pb2.TypeStatus(type_url=ROUTE, refused=[resource])])


def test_nothing_is_said_when_all_is_well() -> None:
    assert said(status_pb2.Proxy(node_id="shop/web/web-0")) == []


def test_a_refusal_names_the_proxy_the_resource_envoys_words_and_the_document() -> None:
    assert said(refusing(error="no\nsuch thing", last_good="4f2a")) == [
        "shop/web/web-0 refuses RouteConfiguration outbound and goes on with 4f2a: no such thing",
        "  it comes from BackendTrafficPolicy/shop/retry (retry.yaml:1)",
    ]


def test_a_refusal_of_what_the_proxy_never_had_says_so() -> None:
    assert said(refusing(error="no"))[0] == "shop/web/web-0 refuses RouteConfiguration outbound and has none: no"


def test_what_waits_says_for_what() -> None:
    wait = status_pb2.Wait(
        resource=status_pb2.ResourceName(type_url=ROUTE, name="outbound"),
        needs=[status_pb2.ResourceName(type_url=CLUSTER, name=name) for name in ("a", "b")],
    )

    removal = status_pb2.Wait(
        resource=status_pb2.ResourceName(type_url=CLUSTER, name="old"), needs=wait.needs[:1], removal=True
    )

    assert said(status_pb2.Proxy(node_id="shop/web/web-0", waits=[wait, removal])) == [
        "shop/web/web-0: RouteConfiguration outbound waits for Cluster a, Cluster b",
        "shop/web/web-0: the removal of Cluster old waits for Cluster a",
    ]


def test_streams_that_were_not_let_in_are_counted() -> None:
    refused = status_pb2.RefusedStreams(reason="identity", count=3, last="not yours", at=NOW - timedelta(seconds=5))

    assert said(refused_streams=(refused,)) == ["3 streams refused (identity), the last 5s ago: not yours"]


def test_what_a_client_does_not_do_is_a_line_each() -> None:
    assert said(status_pb2.Proxy(node_id="shop/sa:web/1", unmet=["one", "two"])) == [
        "shop/sa:web/1: one",
        "shop/sa:web/1: two",
    ]


@pytest.mark.parametrize(
    ("node", "found"),
    [
        pytest.param("web-0", ["shop/web/web-0", "office/web/web-0"], id="the end"),
        pytest.param("shop/web/web-0", ["shop/web/web-0"], id="all of it"),
    ],
)
def test_a_proxy_is_named_by_the_end_of_its_id(node: str, found: list[str]) -> None:
    proxies = [status_pb2.Proxy(node_id=one) for one in ("shop/web/web-0", "office/web/web-0", "shop/web/web-10")]

    assert [one.node_id for one in only(status_pb2.ListProxiesResponse(proxies=proxies), node).proxies] == found


def test_a_proxy_that_is_not_there_is_named_with_the_nearest() -> None:
    answer = status_pb2.ListProxiesResponse(proxies=[status_pb2.Proxy(node_id="shop/web/web-0")])

    with pytest.raises(NotFoundError, match="Did you mean shop/web/web-0"):
        only(answer, "shop/web/web-00")
