"""The bootstrap of a gRPC client without a sidecar: where its library asks for configuration, as whom, and its files.

Plain JSON: gRPC has no message for it. https://github.com/grpc/grpc/blob/master/doc/grpc_xds_features.md
"""

import json
from typing import Any, Final

from mesh.model.address import Address
from mesh.model.names import CLIENT_CERTIFICATES, InstanceId

CERTIFICATE: Final = "certificate.pem"
PRIVATE_KEY: Final = "private-key.pem"
ROOTS: Final = "roots.pem"
"""The files of a client, in one folder."""

REFRESH: Final = "5s"
"""How often they are looked at. gRPC's own is ten minutes, and the shortest leaf is renewed after half of one."""


def grpc_bootstrap(client: InstanceId, xds: Address, folder: str) -> str:
    """`folder` is absolute: it is read by programs that run anywhere."""
    bootstrap = {
        "xds_servers": [
            {
                "server_uri": f"{_host(xds)}:{xds.port}",
                "channel_creds": [{"type": "tls", "config": _files(folder)}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": client.node_id, "cluster": f"{client.namespace}/{client.workload}"},
        "certificate_providers": {CLIENT_CERTIFICATES: {"plugin_name": "file_watcher", "config": _files(folder)}},
    }
    return json.dumps(bootstrap, indent=2) + "\n"


def client_of(bootstrap: str) -> InstanceId:
    """The client in what `grpc_bootstrap` has made. Raises ValueError for anything else."""
    match json.loads(bootstrap):
        case {"node": {"id": str(node_id)}}:
            return InstanceId.from_node_id(node_id)
    raise ValueError("this is no bootstrap of a client")


def _host(xds: Address) -> str:
    """A name: gRPC compares one, and the control plane's certificate, alone in the mesh, has one and no IP address."""
    return "localhost" if xds.host == "127.0.0.1" else xds.host


def _files(folder: str) -> dict[str, Any]:
    return {
        "certificate_file": f"{folder}/{CERTIFICATE}",
        "private_key_file": f"{folder}/{PRIVATE_KEY}",
        "ca_certificate_file": f"{folder}/{ROOTS}",
        "refresh_interval": REFRESH,
    }
