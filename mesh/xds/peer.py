"""Who is at the other end of a stream: config by node, permission by certificate."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.errors import IdentityError, ProtocolError
from mesh.model.names import InstanceId
from mesh.model.printable import printable
from mesh.model.workload import Locality

LONGEST_ID: Final = 800
"""Characters. Three names of 253 have fewer, and what a peer claims to be is in the words with which it is refused."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What the first message of a stream says of its sender. `identity` is proven, the rest is a claim.

    `is_client`: it is no proxy but a gRPC client, which asks by name for what it calls.
    """

    node_id: str
    identity: str
    locality: Locality
    envoy_version: str
    is_client: bool = False


Admit = Callable[[base_pb2.Node, Mapping[str, Iterable[bytes]]], Peer]
"""Takes the node of a first message and what is known of the connection. Raises MeshError for who may not ask."""


def spiffe_id(auth_context: Mapping[str, Iterable[bytes]]) -> str:
    """The SPIFFE id of the certificate at the other end, "" unless it has exactly one that is well-formed."""
    return next((value.decode() for value in auth_context.get("peer_spiffe_id", ())), "")


def admit(
    node: base_pb2.Node,
    auth_context: Mapping[str, Iterable[bytes]],
    identity_of: Callable[[str], str | None],
) -> Peer:
    """The peer, if its certificate has the SPIFFE id that is recorded for the node it claims to be.

    Raises ProtocolError for a node without an id, IdentityError for one that the peer may not claim.
    """
    proven = spiffe_id(auth_context)
    peer = _peer(node, proven)
    expected = identity_of(node.id)
    if expected is None:
        raise IdentityError(
            node.id, "no agent has attached this instance", "Start it with an agent, and attach it first"
        )
    if proven != expected:
        problem = f"its certificate says {proven or 'nothing'}, and not {expected}"
        raise IdentityError(node.id, problem, "A proxy may only ask for the configuration of its own instance")
    return replace(peer, is_client=_is_client(node.id))


def admit_anyone(node: base_pb2.Node, auth_context: Mapping[str, Iterable[bytes]]) -> Peer:
    """The peer that it claims to be. Raises ProtocolError for a node without an id."""
    return _peer(node, identity="")


def _peer(node: base_pb2.Node, identity: str) -> Peer:
    if len(node.id) > LONGEST_ID:
        raise ProtocolError("xds", f"the node id is longer than {LONGEST_ID} characters", "Send that of the bootstrap")
    if not node.id:
        raise ProtocolError("xds", "the first message of the stream has no node id", "Set node.id in Envoy's bootstrap")
    region, zone = (printable(one, LONGEST_ID) for one in (node.locality.region, node.locality.zone))
    return Peer(node.id, identity, Locality(region, zone), printable(_envoy_version(node), LONGEST_ID))


def _is_client(node_id: str) -> bool:
    try:
        return InstanceId.from_node_id(node_id).service_account is not None
    except ValueError:
        return False


def _envoy_version(node: base_pb2.Node) -> str:
    version = node.user_agent_build_version.version
    if not node.HasField("user_agent_build_version"):
        return node.user_agent_version
    return f"{version.major_number}.{version.minor_number}.{version.patch}"
