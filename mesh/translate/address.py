"""Addresses as Envoy writes them."""

from mesh.api.envoy.config.core.v3 import address_pb2
from mesh.model.address import Address


def socket_address(address: Address) -> address_pb2.Address:
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=address.host, port_value=address.port))


def pipe(path: str) -> address_pb2.Address:
    """A unix socket that only its owner may open."""
    return address_pb2.Address(pipe=address_pb2.Pipe(path=path, mode=0o600))
