"""`proa proxy-status`: what every proxy has been told, and what it said."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mesh.cli.options import Format, OutputOption, ServerOption, StateOption

if TYPE_CHECKING:
    from datetime import datetime

    from mesh.api.proa.v1 import status_pb2


def proxy_status(
    state: StateOption = None,
    server: ServerOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what each proxy runs, and since when.

    The last NACK is in Envoy's own words, and kept after it was mended.
    """
    from mesh.api.proa.v1 import status_pb2, status_pb2_grpc
    from mesh.cli.connection import SECONDS, connected
    from mesh.cli.output import as_json, now, table, write

    with connected(state, server) as channel:
        stub = status_pb2_grpc.StatusServiceStub(channel)
        proxies = stub.ListProxies(status_pb2.ListProxiesRequest(), timeout=SECONDS).proxies
    if output is not Format.TABLE:
        write({"proxies": [{**as_json(proxy), "state": state_of(proxy)} for proxy in proxies]}, output)
        return
    at = now()
    columns = ("proxy", "identity", "envoy", "state", "since", "config", "last NACK")
    table(columns, (_row(proxy, at) for proxy in proxies), empty="There is no proxy.")
    for proxy in proxies:
        if proxy.problem:
            print(f"warning: {proxy.node_id}: it keeps the configuration before: {proxy.problem}", file=sys.stderr)


def state_of(proxy: status_pb2.Proxy) -> str:
    """`SYNCED`, `PENDING`, `NACKED` or `DISCONNECTED`."""
    from mesh.api.proa.v1 import status_pb2

    return status_pb2.ProxyState.Name(proxy.state).removeprefix("PROXY_STATE_")


def _row(proxy: status_pb2.Proxy, at: datetime) -> tuple[str, ...]:
    from datetime import UTC

    from mesh.cli.output import ago

    since = f"{ago(proxy.since.ToDatetime(UTC), at)} ago" if proxy.HasField("since") else ""
    nack = " ".join(proxy.last_nack.split())
    return (
        proxy.node_id,
        proxy.identity,
        proxy.envoy_version,
        state_of(proxy),
        since,
        proxy.config_version,
        nack,
    )
