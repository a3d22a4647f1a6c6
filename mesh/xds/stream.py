"""One stream as a state machine: requests in, responses out. Here what both variants are to their driver."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Protocol, TypeVar

from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from mesh.registry.status import ResourceStatus, TypeStatus, Wait
from mesh.xds.messages import Answer, Moments, Response
from mesh.xds.source import State

R = TypeVar("R", bound=DeltaDiscoveryRequest | DiscoveryRequest)
R_contra = TypeVar("R_contra", contravariant=True)


class Stream(Protocol[R_contra]):
    """`now` is any clock that never goes back."""

    def receive(self, request: R_contra, now: timedelta) -> Answer | None:
        """Takes in one request, and returns what it answers, if it is an ACK or a NACK.

        Raises ProtocolError for one without a type or of another type than the stream is for, LimitError for one that
        asks for too much.
        """

    def next_response(self, state: State, now: timedelta) -> Response | None:
        """The next response that may be sent now, or None. Whoever asks must send it, and then ask again."""

    def next_deadline(self) -> timedelta | None:
        """When to ask for the next response although nothing has happened."""

    def is_quiet(self, state: State) -> bool:
        """Whether the client has answered for all there is. Ask when `next_response` has returned None."""

    def rests(self, state: State) -> bool:
        """Whether nothing is on its way and nothing is to be said."""

    def refuses(self, state: State) -> bool:
        """Whether a refusal stands. Ask when `next_response` has returned None."""

    def types(self, state: State, waits: tuple[Wait, ...] | None = None) -> tuple[TypeStatus, ...]:
        """How far the client is, by resource type, without times. `waits` are those of the state, if they are known."""

    def moments(self, type_url: str) -> Moments:
        """Since when what was sent, accepted and refused of a type that the client has asked for is what it is."""

    def waits(self, state: State) -> tuple[Wait, ...]:
        """What is held back, and for what. Ask when `next_response` has returned None."""

    def asked(self, type_url: str) -> AbstractSet[str]:
        """The names of the type that the client asks for, one by one."""

    def resources(self) -> Iterator[ResourceStatus]:
        """How far the client is, by resource."""
