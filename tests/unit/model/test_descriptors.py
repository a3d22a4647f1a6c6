"""Descriptors read as a schema, whatever is in them."""

from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import (
    FileDescriptorProto,
    FileDescriptorSet,
    MethodOptions,
)
from hypothesis import given
from hypothesis import strategies as st

from mesh.api.proa.v1 import options_pb2
from mesh.model.descriptors import (
    LARGEST_SET,
    MOST_BINDINGS,
    MOST_METHODS,
    MOST_PROBLEMS,
    Reading,
    read,
)
from mesh.model.schema import HttpRule, Idempotency, Method, Schema
from mesh.model.wire_format import len_field


def a_file(name: str = "shop.proto", package: str = "shop.v1", **services: list[Any]) -> FileDescriptorProto:
    """A file; each method is its name or a dictionary of its fields."""
    file = FileDescriptorProto(name=name, package=package)
    for service, methods in services.items():
        added = file.service.add(name=service)
        for method in methods:
            added.method.add(**method) if isinstance(method, dict) else added.method.add(name=method)
    return file


def a_set(*files: FileDescriptorProto) -> bytes:
    return FileDescriptorSet(file=files).SerializeToString(deterministic=True)


def an_option(**fields: Any) -> MethodOptions:
    options = MethodOptions()
    options.Extensions[options_pb2.method].CopyFrom(options_pb2.CallOptions(**fields))
    return options


def the_method(options: MethodOptions, **fields: Any) -> tuple[Method, tuple[str, ...]]:
    """One method with these options, as it is read, and what could not be."""
    reading = read(a_set(a_file(S=[{"name": "M", "options": options, **fields}])))
    (method,) = reading.schema.methods
    return method, reading.problems


def test_methods_of_all_services_are_read() -> None:
    files = a_set(
        a_file(Stock=[{"name": "Watch", "server_streaming": True}, {"name": "Load", "client_streaming": True}]),
        a_file("b.proto", "", Bare=["Get"]),
        a_file("empty.proto"),
    )

    schema = Schema(
        (
            Method("Bare", "Get"),
            Method("shop.v1.Stock", "Load", client_streaming=True),
            Method("shop.v1.Stock", "Watch", server_streaming=True),
        )
    )
    assert read(files) == Reading(schema)
    assert read(b"") == Reading(Schema())


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (MethodOptions.IDEMPOTENCY_UNKNOWN, Idempotency.UNKNOWN),
        (MethodOptions.NO_SIDE_EFFECTS, Idempotency.NO_SIDE_EFFECTS),
        (MethodOptions.IDEMPOTENT, Idempotency.IDEMPOTENT),
    ],
)
def test_idempotency_and_deprecation_are_read(level: Any, expected: Idempotency) -> None:
    method, _ = the_method(MethodOptions(idempotency_level=level, deprecated=True))

    assert (method.idempotency, method.deprecated) == (expected, True)


def test_an_idempotency_level_of_the_future_is_unknown() -> None:
    file = len_field(6, len_field(1, b"S") + len_field(2, len_field(1, b"M") + len_field(4, b"\x90\x02\x63")))

    (method,) = read(len_field(1, file)).schema.methods

    assert method.idempotency is Idempotency.UNKNOWN


def test_http_bindings_are_read_with_the_additional_ones() -> None:
    options = MethodOptions()
    rule = options.Extensions[annotations_pb2.http]
    rule.get, rule.response_body = "/v1/{name=books/*}", "book"
    rule.additional_bindings.add(post="/v1/books:find", body="*")
    rule.additional_bindings.add().custom.kind = "head"
    rule.additional_bindings[-1].custom.path = "/v1/books"

    method, problems = the_method(options)

    assert method.http == (
        HttpRule("GET", "/v1/{name=books/*}", response_body="book"),
        HttpRule("POST", "/v1/books:find", "*"),
        HttpRule("HEAD", "/v1/books"),
    )
    assert not problems


def test_a_body_that_is_no_field_is_none() -> None:
    options = MethodOptions()
    options.Extensions[annotations_pb2.http].post, options.Extensions[annotations_pb2.http].body = "/", "\x1b[2J"

    method, _ = the_method(options)

    assert method.http == (HttpRule("POST", "/"),)


@pytest.mark.parametrize("path", ["books", "", "/a b", "/" + "x" * 600, "/\x1b[2J"])
def test_a_binding_without_a_usable_path_is_left_out(path: str) -> None:
    options = MethodOptions()
    options.Extensions[annotations_pb2.http].get = path

    method, problems = the_method(options)

    assert method.http == ()
    assert problems == ("shop.v1.S/M: not all bindings of its google.api.http are usable",)


def test_of_very_many_bindings_some_count() -> None:
    options = MethodOptions()
    options.Extensions[annotations_pb2.http].get = "/"
    for _ in range(MOST_BINDINGS):
        options.Extensions[annotations_pb2.http].additional_bindings.add(get="/x")

    method, problems = the_method(options)

    assert len(method.http) == MOST_BINDINGS
    assert problems


@pytest.mark.parametrize("name", ["", "a/b", "a b", "\x1b[2J", "ö", "9", "x" * 600, "a..b"])
def test_what_is_no_name_is_left_out_and_the_schema_not_complete(name: str) -> None:
    file = a_file(package="", **{name: ["M"]})
    method = a_file(S=[name, "Good"])

    assert read(a_set(file)).schema == Schema(complete=False)
    assert read(a_set(method)).schema == Schema((Method("shop.v1.S", "Good"),), complete=False)
    assert read(a_set(method)).problems[0].startswith("shop.v1.S: ")


def test_a_name_that_is_no_text_is_no_name() -> None:
    assert read(len_field(1, len_field(6, len_field(1, b"\xff\xfe")))).problems == (
        "'\ufffd\ufffd' is no name of a service",
    )


def test_a_method_has_no_package() -> None:
    assert read(a_set(a_file(S=["a.b"]))).problems == ("shop.v1.S: 'a.b' is no name of a method",)


def test_a_package_that_is_no_text_is_no_package() -> None:
    service = len_field(6, len_field(1, b"S") + len_field(2, len_field(1, b"M")))

    assert read(len_field(1, len_field(2, b"\xff") + service)).schema == Schema(complete=False)


def test_problems_are_bounded() -> None:
    reading = read(a_set(a_file(S=[f"{n}" for n in range(MOST_PROBLEMS + 50)])))

    assert len(reading.problems) == MOST_PROBLEMS


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"\0" * (LARGEST_SET + 1), "it has more than 16 MiB", id="too large"),
        pytest.param(b"hello, world", "it is no protobuf message", id="text"),
        pytest.param(len_field(1, b"\x0b"), "it is no protobuf message", id="a group"),
        pytest.param(b"\x0a\x05ab", "it is no protobuf message", id="cut off"),
        pytest.param(b"\x08", "it is no protobuf message", id="cut off in a number"),
        pytest.param(b"\x08" + b"\xff" * 12, "it is no protobuf message", id="a number without end"),
        pytest.param(b"\x08" + b"\xff" * 12 + b"\x01", "it is no protobuf message", id="a number that is too long"),
        pytest.param(b"\x02\x00", "it is no protobuf message", id="field 0"),
        pytest.param(b"\x0a\0" * 1_000_000, "it has too many parts", id="a million empty files"),
        pytest.param(
            len_field(1, len_field(6, len_field(1, b"S") + len_field(2, len_field(1, b"M")) * (MOST_METHODS + 1))),
            f"it has more than {MOST_METHODS} methods",
            id="too many methods",
        ),
    ],
)
def test_what_is_no_descriptor_set_is_said(content: bytes, problem: str) -> None:
    assert read(content) == Reading(Schema(complete=False), (problem,))


def test_fields_of_fixed_size_are_passed_over() -> None:
    file = b"\xfd\x3f1234" + b"\xf9\x3f12345678" + len_field(6, len_field(1, b"S") + len_field(2, len_field(1, b"M")))

    assert read(len_field(1, file)).schema == Schema((Method("S", "M"),))


@given(st.binary(max_size=400))
def test_any_bytes_can_be_read(content: bytes) -> None:
    assert isinstance(read(content), Reading)


BOOKS = a_set(
    a_file(S=[{"name": "M", "options": an_option(timeouts={"request": {"seconds": 1}}, retry={"num_retries": 2})}, "N"])
)


@given(at=st.integers(0, len(BOOKS) - 1), with_=st.binary(max_size=3), cut=st.integers(0, 4))
def test_a_set_with_some_bytes_changed_can_be_read(at: int, with_: bytes, cut: int) -> None:
    assert isinstance(read(BOOKS[:at] + with_ + BOOKS[at + cut :]), Reading)


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
METHODS = st.fixed_dictionaries(
    {"name": NAMES, "client_streaming": st.booleans(), "server_streaming": st.booleans()},
    optional={"options": st.builds(MethodOptions, deprecated=st.booleans(), idempotency_level=st.integers(0, 2))},
)


@given(files=st.lists(st.builds(a_file, name=NAMES, package=NAMES | st.just(""), S=st.lists(METHODS)), max_size=3))
def test_it_reads_what_protobuf_reads(files: list[FileDescriptorProto]) -> None:
    expected: dict[tuple[str, str], tuple[bool, bool, bool, int]] = {}
    for file in files:
        for service in file.service:
            name = f"{file.package}.{service.name}".removeprefix(".")
            for method in service.method:
                said = (method.client_streaming, method.server_streaming)
                options = method.options
                expected.setdefault((name, method.name), (*said, options.deprecated, options.idempotency_level))

    found = read(a_set(*files)).schema

    levels = [Idempotency.UNKNOWN, Idempotency.NO_SIDE_EFFECTS, Idempotency.IDEMPOTENT]
    assert {
        (m.service, m.name): (m.client_streaming, m.server_streaming, m.deprecated, levels.index(m.idempotency))
        for m in found.methods
    } == expected
