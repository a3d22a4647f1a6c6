"""A real Envoy with a bootstrap written by hand, which gets everything else from a control plane under test."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from mesh.agent.envoy import find
from mesh.model.names import Identity
from tests.xds.control_plane import NODE, ORDERS, ControlPlane

PATIENCE = 60.0
PAUSE = 0.02

DELTA, SOTW = "DELTA_GRPC", "GRPC"
"""What Envoy calls the variants of the protocol."""


class EnvoyProcess:
    """Works in `folder`, and speaks one variant of the protocol.

    With `pings` it sends a keepalive ping to the control plane that often, for example `0.2s`.
    """

    def __init__(self, folder: Path, pings: str = "", variant: str = DELTA) -> None:
        self._folder = folder
        self._pings = pings
        self._variant = variant
        self._pid = 0

    @asynccontextmanager
    async def running(self, control_plane: ControlPlane, identity: Identity = ORDERS) -> AsyncIterator[None]:
        """Connects to the control plane as the node NODE, with a certificate for `identity`."""
        self._folder.mkdir(exist_ok=True)
        key, chain = control_plane.leaf(identity)
        texts = {"key.pem": key, "chain.pem": chain, "roots.pem": control_plane.authority.bundle_pem}
        for name, text in {**texts, "bootstrap.json": json.dumps(self._bootstrap(control_plane.port))}.items():
            (self._folder / name).write_text(text)
        options = [
            "-c",
            "bootstrap.json",
            "--disable-hot-restart",
            "--concurrency",
            "1",
            "--admin-address-path",
            "admin",
        ]
        with (self._folder / "log").open("w") as log:
            process = await asyncio.create_subprocess_exec(find().path, *options, cwd=self._folder, stderr=log)
        self._pid = process.pid
        try:
            yield
        finally:
            process.kill()
            await process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within the block it does nothing, although its connections stay open."""
        os.kill(self._pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._pid, signal.SIGCONT)

    def log(self) -> str:
        return (self._folder / "log").read_text()

    async def until(self, condition: Callable[[], object]) -> None:
        """Returns when the condition holds. While Envoy is not there yet, it does not."""
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(_holds, condition):  # noqa: ASYNC110  # another process sets no event
                await asyncio.sleep(PAUSE)

    def names(self, type_name: str) -> set[str]:
        """Names of what Envoy has got by xDS and uses, for example of type `Cluster`."""
        dump = json.loads(get((self._folder / "admin").read_text(), "/config_dump?include_eds"))
        found = [node for node in _walk(dump["configs"]) if node.get("@type", "").endswith(f".{type_name}")]
        return {node.get("name") or node.get("cluster_name") for node in found} - {"xds"}

    def call(self, listener: str) -> str:
        """What the listener answers."""
        return get(f"127.0.0.1:{self.port(listener)}", "/")

    def port(self, listener: str) -> int:
        """Where the listener listens."""
        listeners = json.loads(get((self._folder / "admin").read_text(), "/listeners?format=json"))
        found = {each["name"]: each["local_address"]["socket_address"] for each in listeners["listener_statuses"]}
        port: int = found[listener]["port_value"]
        return port

    def statistic(self, name: str) -> int:
        """One of Envoy's own counters or gauges."""
        stats = json.loads(get((self._folder / "admin").read_text(), f"/stats?format=json&filter=^{name}$"))["stats"]
        return next((int(each["value"]) for each in stats if each.get("name") == name), 0)

    def _bootstrap(self, port: int) -> dict[str, Any]:
        ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
        xds = {"envoy_grpc": {"cluster_name": "xds"}}
        return {
            "node": {"id": NODE, "cluster": "orders"},
            "admin": {"address": _address(0)},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": self._variant,
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": True,
                    "grpc_services": [xds],
                },
                "cds_config": ads,
                "lds_config": ads,
            },
            "static_resources": {"clusters": [_xds_cluster(port, self._pings)]},
        }


def get(address: str, path: str) -> str:
    connection = HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def _holds(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except (OSError, ValueError, KeyError):
        return False


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of a configuration dump that is in use."""
    if isinstance(value, dict):
        yield value
        value = [child for name, child in value.items() if name not in ("draining_state", "error_state")]
    for child in value if isinstance(value, list) else ():
        yield from _walk(child)


def _xds_cluster(port: int, pings: str) -> dict[str, Any]:
    http2 = {"connection_keepalive": {"interval": pings, "timeout": "5s"}} if pings else {}
    server = {"san_type": "URI", "matcher": {"exact": "spiffe://proa.local/ns/proa-system/sa/control-plane"}}
    return {
        "name": "xds",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "xds",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": http2},
            }
        },
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": ["h2"],
                    "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                    "tls_certificates": [
                        {"certificate_chain": {"filename": "chain.pem"}, "private_key": {"filename": "key.pem"}}
                    ],
                    "validation_context": {
                        "trusted_ca": {"filename": "roots.pem"},
                        "match_typed_subject_alt_names": [server],
                    },
                },
            },
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
