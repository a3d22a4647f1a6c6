"""The bootstrap of gRPC clients without a sidecar."""

import json

import pytest

from mesh.model.address import Address
from mesh.model.names import InstanceId
from mesh.translate.grpc_bootstrap import client_of, grpc_bootstrap

CLIENT = InstanceId.of_client("shop", "reporter", "1f2e")
FILES = {
    "certificate_file": "/d/certificate.pem",
    "private_key_file": "/d/private-key.pem",
    "ca_certificate_file": "/d/roots.pem",
    "refresh_interval": "5s",
}


def test_the_library_is_told_where_to_ask_as_whom_and_where_its_files_are() -> None:
    assert json.loads(grpc_bootstrap(CLIENT, Address("127.0.0.1", 18000), "/d")) == {
        "xds_servers": [
            {
                "server_uri": "localhost:18000",
                "channel_creds": [{"type": "tls", "config": FILES}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": "shop/sa:reporter/1f2e", "cluster": "shop/sa:reporter"},
        "certificate_providers": {"proa": {"plugin_name": "file_watcher", "config": FILES}},
    }


def test_a_control_plane_elsewhere_is_called_by_its_name() -> None:
    [server] = json.loads(grpc_bootstrap(CLIENT, Address("mesh.example", 1), "/d"))["xds_servers"]

    assert server["server_uri"] == "mesh.example:1"


def test_the_client_is_found_again_in_its_bootstrap() -> None:
    assert client_of(grpc_bootstrap(CLIENT, Address("127.0.0.1", 1), "/d")) == CLIENT


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"node": null}', '{"node": {"id": "a/b"}}', '{"node": {"id": 1}}'])
def test_another_text_is_no_bootstrap(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        client_of(text)
