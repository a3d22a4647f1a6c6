"""A real Envoy that calls with the certificates of a sidecar: a new connection for every call, and no retry."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh.agent.envoy import Admin, find
from mesh.errors import UnreachableError
from tests.mesh.running import RunningMesh, soon

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
HTTP = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


class Fresh:
    """`address` is where it takes calls."""

    def __init__(self, address: str, admin: Admin) -> None:
        self.address = address
        self._admin = admin

    async def handshakes(self) -> int:
        return await self._admin._statistic("cluster.callee.ssl.handshake")


@asynccontextmanager
async def fresh(mesh: RunningMesh, caller: str, callee: str, run: Path) -> AsyncIterator[Fresh]:
    """Calls `callee` as `caller`. `run` is a short folder for its socket."""
    run.mkdir(parents=True, exist_ok=True)
    instance = mesh.instance(caller)
    sds = mesh.state.folder / "instances" / f"{instance['namespace']}.{instance['instance']}" / "sds"
    socket = run / "admin.sock"
    (run / "bootstrap.json").write_text(json.dumps(_bootstrap(mesh.instance(callee), sds, socket)))
    arguments = ("-c", "bootstrap.json", "--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
    with (run / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(find().path, *arguments, cwd=run, stderr=log)
    admin = Admin(socket)
    try:
        (port,) = await soon(lambda: _ports(admin))
        yield Fresh(f"127.0.0.1:{port}", admin)
    finally:
        process.kill()
        await process.wait()


def _ports(admin: Admin) -> frozenset[int]:
    try:
        return asyncio.run(admin.listeners())
    except UnreachableError:
        return frozenset()


def _bootstrap(callee: dict[str, Any], sds: Path, socket: Path) -> dict[str, Any]:
    return {
        "node": {"id": "fresh", "cluster": "fresh"},
        "admin": {"address": {"pipe": {"path": str(socket)}}},
        "static_resources": {"listeners": [_listener()], "clusters": [_cluster(callee, sds)]},
    }


def _listener() -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "callee", "timeout": "0s"}}
    manager = {
        "@type": MANAGER,
        "stat_prefix": "fresh",
        "codec_type": "HTTP2",
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    return {
        "name": "fresh",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _cluster(callee: dict[str, Any], sds: Path) -> dict[str, Any]:
    def secret(name: str) -> dict[str, Any]:
        source = {"path": f"{sds}/current/{name}.json", "watched_directory": {"path": str(sds)}}
        return {"name": name, "sds_config": {"path_config_source": source, "resource_api_version": "V3"}}

    host, _, port = callee["envoy"]["inbound"].rpartition(":")
    who = [{"san_type": "URI", "matcher": {"exact": callee["identity"]}}]
    context = {
        "@type": TLS,
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [secret("id")],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": who},
                "validation_context_sds_secret_config": secret("roots"),
            },
        },
        "max_session_keys": 0,  # no resumption: every handshake looks at certificates
    }
    endpoint = {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
    return {
        "name": "callee",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "callee", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": HTTP,
                "common_http_protocol_options": {"max_requests_per_connection": 1},
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "transport_socket": {"name": "tls", "typed_config": context},
    }
