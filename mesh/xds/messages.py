"""What is said on a stream, without its form on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

from mesh.snapshot.named import Named
from mesh.snapshot.resource import Resource


@dataclass(frozen=True, slots=True)
class Delta:
    """What a client is to be told. An empty one is an answer, too: there is nothing.

    The `resources` of a `whole` are all that there are.
    """

    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()
    whole: Named | None = None


@dataclass(frozen=True, eq=False)
class Content:
    """A response without its nonce: one object for all streams on which the same is said.

    `version` is what the client has of the type once it has accepted this. `heartbeats` are resources that the client
    has, and is only told that they still hold. The state of the world has no words for `removed`: there it is said by
    absence, or not at all. The `resources` of a `whole` are all that there are. `bodies` are for those who write
    messages.
    """

    type_url: str
    version: str
    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()
    heartbeats: tuple[Resource, ...] = ()
    whole: Named | None = None
    bodies: dict[str, bytes] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def size(self) -> int:
        """Bytes of the resources alone."""
        if self.whole is not None:
            return self.whole.size
        return sum(len(resource.value) for resource in self.resources)


@dataclass(frozen=True, slots=True)
class Response:
    """A message on its way."""

    nonce: str
    content: Content

    @property
    def type_url(self) -> str:
        return self.content.type_url

    @property
    def version(self) -> str:
        return self.content.version

    @property
    def resources(self) -> tuple[Resource, ...]:
        return self.content.resources

    @property
    def removed(self) -> tuple[str, ...]:
        return self.content.removed

    @property
    def heartbeats(self) -> tuple[Resource, ...]:
        return self.content.heartbeats


@dataclass(frozen=True, slots=True)
class Moments:
    """Since when something is as it is, by the clock of the stream; None for never."""

    sent: timedelta | None
    acked: timedelta | None
    nacked: timedelta | None


@dataclass(frozen=True, slots=True)
class Acceptance:
    """An ACK."""

    type_url: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A NACK: the resources that may have been the cause, and why, in the words of the client.

    `good` is what it goes on with: name -> version that it has accepted last, without those that it never had.
    """

    type_url: str
    resources: tuple[Resource, ...]
    error: str
    good: Mapping[str, str] = field(default_factory=dict)


Answer = Acceptance | Refusal
"""What a request says of the response in flight."""
