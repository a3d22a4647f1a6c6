"""A `Refusal` as google.rpc.Status, with the details that programs read: https://google.aip.dev/193."""

from typing import Final

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from kit.errors import AlreadyExists, Invalid, NotFound, Refusal, Unmet, Violation

CODES: Final[dict[type[Refusal], grpc.StatusCode]] = {
    Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    Unmet: grpc.StatusCode.FAILED_PRECONDITION,
}

# A status travels in headers, of which clients take 8 KiB: with these limits it stays below 4 kB.
MAX_VIOLATIONS: Final = 20
MAX_MESSAGE: Final = 200


def status_of(refusal: Refusal, domain: str) -> status_pb2.Status:
    """The answer to the caller. `domain` says whose reason it is: the proto package of the service."""
    info = error_details_pb2.ErrorInfo(reason=refusal.reason, domain=domain, metadata=refusal.facts)
    return status_pb2.Status(
        code=CODES[type(refusal)].value[0],
        message=shortened(refusal.message),
        details=[packed(detail) for detail in (info, violations(refusal)) if detail is not None],
    )


def violations(refusal: Refusal) -> Message | None:
    listed = refusal.violations[:MAX_VIOLATIONS]
    if not listed:
        return None
    if isinstance(refusal, Invalid):
        return error_details_pb2.BadRequest(field_violations=[field_violation(each) for each in listed])
    return error_details_pb2.PreconditionFailure(
        violations=[
            error_details_pb2.PreconditionFailure.Violation(
                type=refusal.reason, subject=each.subject, description=each.problem
            )
            for each in listed
        ]
    )


def field_violation(violation: Violation) -> error_details_pb2.BadRequest.FieldViolation:
    return error_details_pb2.BadRequest.FieldViolation(field=violation.subject, description=violation.problem)


def shortened(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 1]}…"


def packed(message: Message) -> any_pb2.Any:
    packet = any_pb2.Any()
    packet.Pack(message)
    return packet
