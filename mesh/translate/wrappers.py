"""Protobuf's well-known types from Python's values."""

from datetime import timedelta

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value


def typed_config(message: Message) -> Any:
    """`message` packed for a field named `typed_config`; equal messages give equal bytes."""
    packed = Any()
    packed.Pack(message, deterministic=True)
    return packed


def duration(length: timedelta | None) -> Duration | None:
    if length is None:
        return None
    packed = Duration()
    packed.FromTimedelta(length)
    return packed


def uint32(number: int) -> UInt32Value:
    return UInt32Value(value=number)


def boolean(value: bool) -> BoolValue:
    return BoolValue(value=value)
