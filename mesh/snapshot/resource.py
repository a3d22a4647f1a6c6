"""One xDS resource, serialised once."""

import hashlib
from dataclasses import dataclass

from google.protobuf.message import Message


@dataclass(frozen=True, slots=True)
class Resource:
    """`version` is a digest of `value`: equal config has an equal version in any replica, after any restart."""

    name: str
    type_url: str
    value: bytes
    version: str


def type_url(message: type[Message] | Message) -> str:
    return f"type.googleapis.com/{message.DESCRIPTOR.full_name}"


def resource(name: str, message: Message) -> Resource:
    """`message` as a resource called `name`, ready to send."""
    value = message.SerializeToString(deterministic=True)
    return Resource(name, type_url(message), value, version=digest(value))


def digest(*parts: bytes) -> str:
    """16 hex digits that differ when the parts differ."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big"))
        whole.update(part)
    return whole.hexdigest()[:16]
