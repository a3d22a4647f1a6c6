"""`proa proxy-status`: what every proxy has been told, and what it said."""

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer

from mesh.api.proa.v1 import documents_pb2, status_pb2, status_pb2_grpc
from mesh.cli.connection import SECONDS, connected
from mesh.cli.options import Format, OutputOption, ServerOption, StateOption
from mesh.cli.output import ago, as_json, count, table, write
from mesh.errors import NotFoundError


def proxy_status(
    node: Annotated[
        str | None, typer.Argument(metavar="[NODE]", help="NAMESPACE/WORKLOAD/INSTANCE, or the end of it.")
    ] = None,
    state: StateOption = None,
    server: ServerOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what each proxy runs, and since when.

    The last NACK is in Envoy's own words, and kept after it was mended. Below the table: what a proxy has refused as it
    is now, and the documents it comes from; what is held back, and for what; what a gRPC client does not do although a
    policy asks for it; streams that were not let in.
    """
    with connected(state, server) as channel:
        stub = status_pb2_grpc.StatusServiceStub(channel)
        answer = stub.ListProxies(status_pb2.ListProxiesRequest(), timeout=SECONDS)
    if node is not None:
        answer = only(answer, node)
    if output is not Format.TABLE:
        proxies = [{**as_json(proxy), "state": state_of(proxy)} for proxy in answer.proxies]
        write({**as_json(answer), "proxies": proxies}, output)
        return
    at = datetime.now(UTC)
    columns = ("proxy", "identity", "envoy", "state", "since", "config", "last NACK")
    table(columns, (_row(proxy, at) for proxy in answer.proxies), empty="There is no proxy.")
    if lines := news(answer, at):
        print("", *lines, sep="\n")
    for proxy in answer.proxies:
        if proxy.problem:
            print(f"warning: {proxy.node_id}: it keeps the configuration before: {proxy.problem}", file=sys.stderr)


def news(answer: status_pb2.ListProxiesResponse, at: datetime) -> list[str]:
    """What somebody has to mend or to wait for, a line each."""
    proxies = answer.proxies
    return [*_refusals(proxies), *_waits(proxies), *_unmet(proxies), *_refused_streams(answer.refused_streams, at)]


def only(answer: status_pb2.ListProxiesResponse, node: str) -> status_pb2.ListProxiesResponse:
    """What it says of the proxies whose id ends like that. Raises NotFoundError when there is none."""
    from mesh.config.nearest import did_you_mean

    known = [proxy.node_id for proxy in answer.proxies]
    found = [proxy for proxy in answer.proxies if f"/{proxy.node_id}".endswith(f"/{node}")]
    if not found:
        raise NotFoundError(node, "there is no such proxy", did_you_mean(node, known, "See `proa proxy-status`"))
    return status_pb2.ListProxiesResponse(proxies=found)


def state_of(proxy: status_pb2.Proxy) -> str:
    """`SYNCED`, `PENDING`, `NACKED` or `DISCONNECTED`."""
    return status_pb2.ProxyState.Name(proxy.state).removeprefix("PROXY_STATE_")


def _row(proxy: status_pb2.Proxy, at: datetime) -> tuple[str, ...]:
    since = f"{ago(proxy.since.ToDatetime(UTC), at)} ago" if proxy.HasField("since") else ""
    nack = " ".join(proxy.last_nack.split())
    return proxy.node_id, proxy.identity, proxy.envoy_version, state_of(proxy), since, proxy.config_version, nack


def _refusals(proxies: Iterable[status_pb2.Proxy]) -> Iterator[str]:
    """What each proxy has refused as it is now, in its words, and who has to mend what."""
    for proxy in proxies:
        for of_type in proxy.types:
            for refused in of_type.refused:
                what = f"{_kind(of_type.type_url)} {refused.name}"
                goes_on = f"goes on with {refused.last_good}" if refused.last_good else "has none"
                yield f"{proxy.node_id} refuses {what} and {goes_on}: {' '.join(refused.error.split())}"
                if origins := [f"{_key(one.key)} ({one.where})" for one in refused.documents]:
                    yield f"  it comes from {', '.join(origins)}"


def _waits(proxies: Iterable[status_pb2.Proxy]) -> Iterator[str]:
    for proxy in proxies:
        for wait in proxy.waits:
            what = f"the removal of {_resource(wait.resource)}" if wait.removal else _resource(wait.resource)
            yield f"{proxy.node_id}: {what} waits for {', '.join(map(_resource, wait.needs))}"


def _unmet(proxies: Iterable[status_pb2.Proxy]) -> Iterator[str]:
    return (f"{proxy.node_id}: {sentence}" for proxy in proxies for sentence in proxy.unmet)


def _refused_streams(refused: Iterable[status_pb2.RefusedStreams], at: datetime) -> Iterator[str]:
    for one in refused:
        streams = count(one.count, "stream")
        yield f"{streams} refused ({one.reason}), the last {ago(one.at.ToDatetime(UTC), at)} ago: {one.last}"


def _resource(name: status_pb2.ResourceName) -> str:
    return f"{_kind(name.type_url)} {name.name}"


def _kind(type_url: str) -> str:
    """Envoy's word for it, for example `Cluster`."""
    return type_url.rpartition(".")[2]


def _key(key: documents_pb2.DocumentKey) -> str:
    return f"{key.kind}/{key.namespace}/{key.name}"
