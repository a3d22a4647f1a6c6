"""One xDS resource, serialised once."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from google.protobuf.message import Message


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Resource:
    """`version` is a digest of `value`: equal config has an equal version in any replica, after any restart.

    `needs` are (type URL, name) of what it refers to. With a `ttl` the client drops it after that time, unless it hears
    of it again.
    """

    name: str = field(hash=False)
    type_url: str = field(hash=False)
    value: bytes = field(hash=False)
    version: str
    needs: tuple[tuple[str, str], ...] = field(default=(), hash=False)
    ttl: timedelta | None = field(default=None, hash=False)
    heads: dict[str, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What comes before `value` in messages: for those who write them, so that each is made once."""
    _mark: int = field(default=0, init=False, repr=False, compare=False)

    @property
    def mark(self) -> int:
        """A digest of name and version, of 128 bits, which can be added up to one of many."""
        if not self._mark:
            name = self.name.encode()
            parts = b"%d %b %b" % (len(name), name, self.version.encode())
            object.__setattr__(self, "_mark", int.from_bytes(hashlib.sha256(parts).digest()[:16], "big"))
        return self._mark


def type_url(message: type[Message] | Message) -> str:
    return f"type.googleapis.com/{message.DESCRIPTOR.full_name}"


def resource(name: str, message: Message, needs: Iterable[tuple[str, str]] = ()) -> Resource:
    """`message` as a resource called `name`, ready to send."""
    value = message.SerializeToString(deterministic=True)
    return Resource(name, type_url(message), value, digest(value), tuple(sorted(set(needs))))


def digest(*parts: bytes) -> str:
    """16 hex digits that differ when the parts differ."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big"))
        whole.update(part)
    return whole.hexdigest()[:16]
