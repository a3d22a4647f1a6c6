"""What a service tells of itself by server reflection: all files of all its services, within bounds.

Whoever answers may be slow, endless or wrong.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import grpc
from grpc_reflection.v1alpha import reflection_pb2

from mesh.agent.addresses import host_port
from mesh.agent.health import CHANNEL_OPTIONS
from mesh.model.descriptors import LARGEST_SET, MOST_FIELDS, DescriptorFile, file_of, with_services
from mesh.model.wire_format import Splitter

SECONDS: Final = 5.0
"""For all questions to one port."""

MOST_SERVICES: Final = 1000
MOST_FILES: Final = 10_000
LONGEST_DETAILS: Final = 200

METHODS: Final = (
    # v1 has the messages of v1alpha. https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)

OPTIONS: Final = (*CHANNEL_OPTIONS, ("grpc.max_receive_message_length", LARGEST_SET + 1024 * 1024))

Question: TypeAlias = reflection_pb2.ServerReflectionRequest
Answer: TypeAlias = reflection_pb2.ServerReflectionResponse


@dataclass(frozen=True, slots=True)
class Reflected:
    """The files by name, without services that are not served. `undescribed` are served, without a file."""

    files: tuple[tuple[str, bytes], ...] = ()
    undescribed: tuple[str, ...] = ()


class ReflectionError(Exception):
    """Why nothing is known, for people, and whether it may be otherwise soon."""

    def __init__(self, why: str, *, may_pass: bool = False) -> None:
        super().__init__(why)
        self.may_pass = may_pass


async def reflect(port: int) -> Reflected:
    """What the service at this port of 127.0.0.1 tells. Raises ReflectionError when that is nothing usable."""
    try:
        async with (
            asyncio.timeout(SECONDS),
            grpc.aio.insecure_channel(host_port(port), options=OPTIONS) as channel,
        ):
            return await _reflect(channel)
    except TimeoutError:
        why = f"it did not answer all of server reflection within {SECONDS:g} s"
        raise ReflectionError(why, may_pass=True) from None
    except grpc.aio.AioRpcError as error:
        raise ReflectionError(_words(error), may_pass=error.code() is grpc.StatusCode.UNAVAILABLE) from error


async def _reflect(channel: grpc.aio.Channel) -> Reflected:
    *newer, oldest = METHODS
    for method in newer:
        try:
            return await _ask_all(channel, method)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
    return await _ask_all(channel, oldest)


async def _ask_all(channel: grpc.aio.Channel, method: str) -> Reflected:
    # A call for each question, and not one stream for all: when a server ends a stream at once, as one without
    # reflection does, grpc.aio tells INTERNAL in place of UNIMPLEMENTED if it was still writing (measured: 1 in 6).
    ask = channel.unary_stream(
        method, request_serializer=Question.SerializeToString, response_deserializer=Answer.FromString
    )
    inquiry = Inquiry()
    for question in inquiry.questions():
        call = ask(question, wait_for_ready=True)
        answer = await call.read()
        call.cancel()
        if isinstance(answer, Answer):
            inquiry.take(answer)
    return inquiry.result()


@dataclass(slots=True)
class Inquiry:
    """Which question comes next, and what the answers come to. Each is asked once, so that it ends."""

    _services: tuple[str, ...] = ()
    _files: dict[str, DescriptorFile] = field(default_factory=dict)
    _contents: set[bytes] = field(default_factory=set)
    _described: set[str] = field(default_factory=set)
    _bytes: int = 0
    _splitter: Splitter = field(default_factory=lambda: Splitter(MOST_FIELDS))
    _asked: set[str] = field(default_factory=set)
    _missing: deque[str] = field(default_factory=deque)

    def questions(self) -> Iterator[Question]:
        """The next one is made when the answer to the one before has been taken."""
        yield Question(list_services="*")
        for service in self._services:
            if service not in self._described:
                yield Question(file_containing_symbol=service)
        while self._missing:
            if (name := self._missing.popleft()) not in self._files:
                yield Question(file_by_filename=name)

    def take(self, answer: Answer) -> None:
        """Raises ReflectionError when there is more than can be true. An answer that makes no sense is none."""
        match answer.WhichOneof("message_response"):
            case "list_services_response":
                self._take_services(answer.list_services_response)
            case "file_descriptor_response":
                contents = answer.file_descriptor_response.file_descriptor_proto
                if max(len(contents), len(self._files)) > MOST_FILES:
                    raise ReflectionError(f"its descriptors have more than {MOST_FILES} files")
                for content in contents:
                    self._take_file(content)

    def result(self) -> Reflected:
        files = self._files.values()
        return Reflected(
            files=tuple((file.name, with_services(file, self._services)) for file in files),
            undescribed=tuple(service for service in self._services if service not in self._described),
        )

    def _take_services(self, answer: reflection_pb2.ListServiceResponse) -> None:
        if len(answer.service) > MOST_SERVICES:
            raise ReflectionError(f"it says that it has more than {MOST_SERVICES} services")
        self._services = self._services or tuple(sorted({service.name for service in answer.service} - {""}))

    def _take_file(self, content: bytes) -> None:
        if content in self._contents:
            return  # grpc-go and others send all imports again for each service
        try:
            file = file_of(content, self._splitter)
        except ValueError:
            return
        if file.name in self._files:
            return
        self._contents.add(content)
        self._files[file.name] = file
        self._described.update(file.services)
        self._bytes += len(content)
        if self._bytes > LARGEST_SET:
            raise ReflectionError(f"its descriptors have more than {LARGEST_SET >> 20} MiB")
        self._missing.extend(name for name in file.dependencies if name not in self._asked)
        self._asked.update(file.dependencies)


def _words(error: grpc.aio.AioRpcError) -> str:
    match error.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            return "it does not answer server reflection"
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return f"its descriptors have more than {LARGEST_SET >> 20} MiB"
    details = "".join(c if c.isprintable() else " " for c in error.details() or "")[:LONGEST_DETAILS]
    return f"server reflection failed with {error.code().name}: {details}"
