"""FileDescriptorSets, as protoc writes them and server reflection tells them, read as a Schema. Pure.

Anything may be in the bytes: they come from other people's services. Field numbers are those of
google/protobuf/descriptor.proto.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from google.api.http_pb2 import HttpRule as HttpRuleMessage
from google.protobuf.message import DecodeError, Message

from mesh.api.proa.v1 import options_pb2
from mesh.model.call_options import call_options
from mesh.model.schema import NOTHING_SAID, CallOptions, HttpRule, Idempotency, Method, Schema
from mesh.model.wire_format import Fields, Splitter, len_field, text

LARGEST_SET: Final = 16 * 1024 * 1024
"""Bytes of the descriptors of one service."""

LARGEST_OPTIONS: Final = 64 * 1024
MOST_METHODS: Final = 10_000
MOST_FIELDS: Final = 500_000
MOST_BINDINGS: Final = 20
MOST_PROBLEMS: Final = 100

NAME, PACKAGE, DEPENDENCY, SERVICES, EXTENSIONS = 1, 2, 3, 6, 7
"""Fields of FileDescriptorProto."""

METHODS, SERVICE_OPTIONS, METHOD_OPTIONS = 2, 3, 4
CLIENT_STREAMING, SERVER_STREAMING = 5, 6
DEPRECATED, IDEMPOTENCY = 33, 34
EXTENDEE, EXTENSION_NUMBER = 2, 3
HTTP: Final = 72295728
OURS: Final = options_pb2.METHOD_FIELD_NUMBER

CLAIMS: Final = {
    ".google.protobuf.ServiceOptions": options_pb2.service.full_name,
    ".google.protobuf.MethodOptions": options_pb2.method.full_name,
}
"""What each message is extended by with the number of ours."""

LEVELS: Final = {1: Idempotency.NO_SIDE_EFFECTS, 2: Idempotency.IDEMPOTENT}

NAMES: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
PATHS: Final = re.compile(r"/[!-~]*")
VERBS: Final = re.compile(r"[A-Za-z-]{1,32}|\*")
LONGEST_NAME: Final = 512

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Reading:
    """What could be read, and a sentence for each thing that could not."""

    schema: Schema
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DescriptorFile:
    """One FileDescriptorProto. `services` are full names."""

    name: str
    content: bytes
    dependencies: tuple[str, ...]
    services: tuple[str, ...]


def file_of(content: bytes, splitter: Splitter) -> DescriptorFile:
    """Raises ValueError for bytes that are no file, or one without a name, and when `splitter` has split enough."""
    fields = splitter.fields(content)
    if not (name := text(fields, NAME)):
        raise ValueError("it is no file of descriptors")
    dependencies = (text({DEPENDENCY: [one]}, DEPENDENCY) for one in fields.get(DEPENDENCY, []))
    services = (service for service, _ in _services(fields, splitter))
    return DescriptorFile(name, content, tuple(filter(None, dependencies)), tuple(services))


def with_services(file: DescriptorFile, wanted: Iterable[str]) -> bytes:
    """The file without the services that are not wanted."""
    splitter = Splitter(2 * MOST_FIELDS)
    wanted = frozenset(wanted)
    services = _services(splitter.fields(file.content), splitter)
    return splitter.without(file.content, SERVICES, {content for name, content in services if name not in wanted})


def packed(files: Iterable[tuple[str, bytes]]) -> bytes:
    """A FileDescriptorSet of these files, by name: equal files give equal bytes, in whatever order they come."""
    return b"".join(len_field(1, content) for _, content in sorted(files))


def digest_of(descriptor_set: bytes) -> str:
    """What names a set: equal bytes have equal digests."""
    return hashlib.sha256(descriptor_set).hexdigest()


def read(descriptor_set: bytes) -> Reading:
    """The methods of all services of a FileDescriptorSet. Files that they import need not be in it.

    Equal bytes give equal readings. What cannot be read makes the schema incomplete, with a sentence.
    """
    if len(descriptor_set) > LARGEST_SET:
        return Reading(Schema(complete=False), (f"it has more than {LARGEST_SET >> 20} MiB",))
    reader = _Reader()
    try:
        schema = reader.schema(descriptor_set)
    except ValueError as error:
        return Reading(Schema(complete=False), (str(error),))
    return Reading(schema, tuple(dict.fromkeys(reader.problems))[:MOST_PROBLEMS])


class _Reader:
    """Reads one set. What raises ValueError spoils all of it."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._splitter = Splitter(MOST_FIELDS)
        self._complete = True
        self._methods = 0
        self._ours = True

    def schema(self, descriptor_set: bytes) -> Schema:
        files = [self._splitter.fields(file) for file in self._splitter.fields(descriptor_set).get(1, [])]
        claims = sorted({claim for file in files for claim in self._claims(file)})
        self._ours = not claims
        self.problems.extend(f"{name} has the number of Proa's own options, so those are not read" for name in claims)
        methods = [method for file in files for method in self._methods_of(file)]
        self.problems.extend(_without_effect(methods))
        return Schema.of(methods, complete=self._complete)

    def _claims(self, file: Fields) -> Iterator[str]:
        """Extensions of somebody else with the number of ours. Those within messages are not looked for."""
        for content in file.get(EXTENSIONS, []):
            extension = self._splitter.fields(content)
            name = _full_name(file, extension)
            mine = CLAIMS.get(text(extension, EXTENDEE), name)
            if self._splitter.numbers(content).get(EXTENSION_NUMBER) == OURS and name != mine:
                yield name if _is_name(name) else "an option without a name"

    def _methods_of(self, file: Fields) -> Iterator[Method]:
        for service, content in _services(file, self._splitter):
            if not _is_name(service):
                self._unread(f"{service[:LONGEST_NAME]!r} is no name of a service")
                continue
            fields = self._splitter.fields(content)
            said = self._said(_options(fields, SERVICE_OPTIONS), service)
            for method in fields.get(METHODS, []):
                self._methods += 1
                if self._methods > MOST_METHODS:
                    raise ValueError(f"it has more than {MOST_METHODS} methods")
                yield from self._method(service, method, said)

    def _method(self, service: str, content: bytes, said: CallOptions) -> Iterator[Method]:
        fields, numbers = self._splitter.fields(content), self._splitter.numbers(content)
        name = text(fields, NAME)
        if not _is_name(name) or "." in name:
            self._unread(f"{service}: {name[:LONGEST_NAME]!r} is no name of a method")
            return
        where, options = f"{service}/{name}", _options(fields, METHOD_OPTIONS)
        flags = self._numbers(options)
        yield Method(
            service=service,
            name=name,
            client_streaming=bool(numbers.get(CLIENT_STREAMING)),
            server_streaming=bool(numbers.get(SERVER_STREAMING)),
            idempotency=LEVELS.get(flags.get(IDEMPOTENCY, 0), Idempotency.UNKNOWN),
            http=self._bindings(options, where),
            deprecated=bool(flags.get(DEPRECATED)),
            options=self._said(options, where),
            service_options=said,
        )

    def _numbers(self, options: bytes) -> dict[int, int]:
        try:
            return self._splitter.numbers(options)
        except ValueError:
            return {}

    def _said(self, options: bytes, where: str) -> CallOptions:
        message = self._extension(options, OURS, options_pb2.CallOptions) if self._ours else options_pb2.CallOptions()
        if message is None:
            self.problems.append(f"{where}: its Proa options cannot be read")
            return NOTHING_SAID
        return call_options(message, where, self.problems)

    def _bindings(self, options: bytes, where: str) -> tuple[HttpRule, ...]:
        rule = self._extension(options, HTTP, HttpRuleMessage)
        if rule is None:
            self.problems.append(f"{where}: its google.api.http cannot be read")
            return ()
        more = rule.additional_bindings
        rules = [rule, *more[: MOST_BINDINGS - 1]] if rule.WhichOneof("pattern") else []
        found = [_binding(one) for one in rules]
        if None in found or len(more) >= MOST_BINDINGS:
            self.problems.append(f"{where}: not all bindings of its google.api.http are usable")
        return tuple(one for one in found if one)

    def _extension(self, options: bytes, number: int, kind: type[M]) -> M | None:
        """The extension of this number, empty when it is not set, and None when it is something else."""
        if len(options) > LARGEST_OPTIONS:
            return None
        try:
            # Of a message that comes in parts all parts count.
            return kind.FromString(b"".join(self._splitter.fields(options).get(number, [])))
        except (DecodeError, ValueError):
            return None

    def _unread(self, problem: str) -> None:
        self._complete = False
        self.problems.append(problem)


def _without_effect(methods: Iterable[Method]) -> Iterator[str]:
    """A sentence for each option that is read, and does nothing yet."""
    said = [(method.path[1:], options) for method in methods for options in (method.options, method.service_options)]
    for option, paths in (
        ("rate_limit", {path for path, options in said if options.rate_limit}),
        ("authorization", {path for path, options in said if options.callers}),
    ):
        if paths:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            yield f"{option} of {min(paths)}{more} is not acted upon yet"


def _services(file: Fields, splitter: Splitter) -> Iterator[tuple[str, bytes]]:
    """Each service of a file with its full name, for example `bookstore.orders.v1.OrderService`."""
    for content in file.get(SERVICES, []):
        yield _full_name(file, splitter.fields(content)), content


def _full_name(file: Fields, part: Fields) -> str:
    package, name = text(file, PACKAGE), text(part, NAME)
    return f"{package}.{name}" if package else name


def _options(fields: Fields, number: int) -> bytes:
    return b"".join(fields.get(number, []))


def _binding(rule: HttpRuleMessage) -> HttpRule | None:
    pattern = rule.WhichOneof("pattern") or ""
    verb, path = (rule.custom.kind, rule.custom.path) if pattern == "custom" else (pattern, getattr(rule, pattern, ""))
    if not VERBS.fullmatch(verb) or not PATHS.fullmatch(path) or len(path) > LONGEST_NAME:
        return None
    body, response_body = (
        field if _is_name(field) or field == "*" else "" for field in (rule.body, rule.response_body)
    )
    return HttpRule(verb.upper(), path, body, response_body)


def _is_name(name: str) -> bool:
    return len(name) <= LONGEST_NAME and NAMES.fullmatch(name) is not None
