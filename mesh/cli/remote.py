"""The API of a control plane on another machine: a token with a role is exchanged for a certificate of minutes."""

import os
from pathlib import Path
from typing import Final

import grpc

from mesh.errors import UsageError
from mesh.model.address import Address
from mesh.model.names import CONTROL_PLANE_HOST

TOKEN_FILE: Final = "PROA_TOKEN"
"""The variable that names the file which `proa token create --role` has written."""

TARGET: Final = ("grpc.ssl_target_name_override", CONTROL_PLANE_HOST)


def channel_to(server: Address, options: tuple[tuple[str, int], ...], seconds: float) -> grpc.Channel:
    """By the token file that PROA_TOKEN names. Raises UsageError without one, RpcError."""
    from mesh.agent.way import TokenFile
    from mesh.api.proa.v1 import tokens_pb2, tokens_pb2_grpc
    from mesh.identity.key import new_key

    named = os.environ.get(TOKEN_FILE, "")
    if not named:
        remedy = f"Have one made there (proa token create --role viewer --to FILE), and set {TOKEN_FILE}=FILE"
        raise UsageError(str(server), "a control plane on another machine needs a token", remedy)
    file, key = TokenFile.read(Path(named)), new_key()
    trusted = grpc.ssl_channel_credentials(file.roots_pem.encode())
    first = Address(server.host, server.port + 1)
    with grpc.secure_channel(str(first), trusted, options=(*options, TARGET)) as contact:
        request = tokens_pb2.RedeemTokenRequest(token=file.token, csr=key.csr)
        signed = tokens_pb2_grpc.TokenServiceStub(contact).RedeemToken(request, timeout=seconds)
    mine = grpc.ssl_channel_credentials(signed.bundle_pem.encode(), key.pem.encode(), signed.chain_pem.encode())
    return grpc.secure_channel(str(server), mine, options=(*options, TARGET))
