"""The files of file-based SDS. Plain JSON without protobuf: the agent writes them and should stay small."""

import json
from typing import Any

from mesh.model.names import LEAF_SECRET, ROOTS_SECRET

SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


def leaf_secret(chain_pem: str, key_pem: str) -> str:
    """The workload's certificate and key, in one file: two files renamed one after the other would not fit."""
    certificate = {"certificate_chain": {"inline_string": chain_pem}, "private_key": {"inline_string": key_pem}}
    return _response(LEAF_SECRET, {"tls_certificate": certificate})


def roots_secret(bundle_pem: str) -> str:
    """The roots to trust. A file of its own: Envoy refuses one that holds both secrets."""
    return _response(ROOTS_SECRET, {"validation_context": {"trusted_ca": {"inline_string": bundle_pem}}})


def _response(name: str, value: dict[str, Any]) -> str:
    return json.dumps({"resources": [{"@type": SECRET, "name": name, **value}]})
