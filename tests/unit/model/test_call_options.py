"""What a proto says by `proa/v1/options.proto`."""

from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from mesh.api.proa.v1 import options_pb2
from mesh.model.descriptors import LARGEST_OPTIONS, read
from mesh.model.schema import CallOptions, Method, RateLimit, Schema
from mesh.model.traffic import Retry, Timeouts
from mesh.model.wire_format import len_field
from tests.unit.model.test_descriptors import a_file, a_set, an_option, the_method


def test_proa_options_are_read_from_methods_and_services() -> None:
    file = a_file(S=["M"])
    said = options_pb2.CallOptions()
    said.timeouts.request.FromMilliseconds(250)
    file.service[0].options.Extensions[options_pb2.service].CopyFrom(said)
    said.timeouts.stream_idle.seconds, said.timeouts.max_stream_duration.seconds = 60, 3600
    said.retry.num_retries = 3
    said.retry.retry_on.triggers.extend([options_pb2.CallOptions.TRIGGER_UNAVAILABLE])
    said.retry.retry_on.triggers.extend([options_pb2.CallOptions.TRIGGER_CONNECT_FAILURE])
    said.retry.per_retry.timeout.seconds = 1
    said.retry.per_retry.back_off.base_interval.FromMilliseconds(10)
    said.retry.per_retry.back_off.max_interval.FromMilliseconds(20)
    said.rate_limit.requests, said.rate_limit.per.seconds = 100, 1
    said.authorization.callers.extend(["web", "shop/desk"])
    file.service[0].method[0].options.Extensions[options_pb2.method].CopyFrom(said)

    reading = read(a_set(file))

    ms, second = timedelta(milliseconds=1), timedelta(seconds=1)
    retry = Retry(
        num_retries=3,
        triggers=("connect-failure", "unavailable"),
        per_try_timeout=second,
        base_interval=10 * ms,
        max_interval=20 * ms,
    )
    timeouts = Timeouts(request=250 * ms, stream_idle=60 * second, max_stream_duration=3600 * second)
    (method,) = reading.schema.methods
    assert method.options == CallOptions(timeouts, retry, RateLimit(100, second), ("shop/desk", "web"))
    assert method.service_options == CallOptions(Timeouts(request=250 * ms))
    assert reading.problems == tuple(
        f"{option} of shop.v1.S/M is not acted upon yet" for option in ("rate_limit", "authorization")
    )


def test_what_does_nothing_yet_is_told_once_however_many_methods_it_is_said_of() -> None:
    file = a_file(S=["M", "L", "N"])
    limited = options_pb2.CallOptions()
    limited.rate_limit.requests, limited.rate_limit.per.seconds = 100, 1
    file.service[0].options.Extensions[options_pb2.service].CopyFrom(limited)

    assert read(a_set(file)).problems == ("rate_limit of shop.v1.S/L and 2 more is not acted upon yet",)


def test_retries_can_be_switched_off_in_a_proto() -> None:
    method, _ = the_method(an_option(retry={"disabled": True}))

    assert method.options.retry == Retry(disabled=True)


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ({"timeouts": {"request": {"seconds": -1}}}, "timeouts.request is not within 1 microsecond and 365 days"),
        ({"timeouts": {"request": {}}}, "timeouts.request is not within 1 microsecond and 365 days"),
        ({"timeouts": {"stream_idle": {"nanos": 1}}}, "timeouts.stream_idle is not within 1 microsecond and 365 days"),
        (
            {"timeouts": {"max_stream_duration": {"seconds": 2**62}}},
            "timeouts.max_stream_duration is not within 1 microsecond and 365 days",
        ),
        ({"retry": {"num_retries": 11}}, "retry.num_retries is 11, not 1 to 10"),
        ({"retry": {"retry_on": {"triggers": [0]}}}, "retry.retry_on.triggers holds one that this Proa does not know"),
        ({"retry": {"retry_on": {"triggers": [99]}}}, "retry.retry_on.triggers holds one that this Proa does not know"),
        (
            {"retry": {"per_retry": {"back_off": {"base_interval": {"seconds": 2}, "max_interval": {"seconds": 1}}}}},
            "back_off.max_interval is shorter than base_interval",
        ),
        ({"rate_limit": {"per": {"seconds": 1}}}, "rate_limit needs `requests` and `per`"),
        (
            {"rate_limit": {"requests": 1_000_000_001, "per": {"seconds": 1}}},
            "rate_limit needs `requests` and `per`",
        ),
        ({"rate_limit": {"requests": 5, "per": {"seconds": -1}}}, "rate_limit needs `requests` and `per`"),
        (
            {"authorization": {"callers": ["we b"]}},
            "authorization.callers are not all different names of service accounts",
        ),
    ],
)
def test_an_option_that_makes_no_sense_is_left_out_with_a_sentence(option: dict[str, Any], problem: str) -> None:
    method, problems = the_method(an_option(**option))

    assert f"shop.v1.S/M: {problem}" in problems
    said = method.options
    assert said.timeouts in (None, Timeouts())
    assert said.retry in (None, Retry(), Retry(base_interval=timedelta(seconds=2)))
    assert (said.rate_limit, said.callers) == (None, ())


def test_of_very_many_callers_some_count() -> None:
    method, problems = the_method(an_option(authorization={"callers": [f"caller-{n}" for n in range(101)]}))

    assert len(method.options.callers) == 100
    assert problems


def test_an_extension_of_somebody_else_with_our_number_is_not_taken_for_ours() -> None:
    file = a_file(S=[{"name": "M", "options": an_option(timeouts={"request": {"seconds": 1}})}])
    file.extension.add(name="shard", number=78420, extendee=".google.protobuf.MethodOptions")

    reading = read(a_set(file))

    assert reading.schema == Schema((Method("shop.v1.S", "M"),))
    assert reading.problems == ("shop.v1.shard has the number of Proa's own options, so those are not read",)


@pytest.mark.parametrize(("package", "name"), [("", "\x1b[2J"), ("shop.v1", "x" * 600), ("a/b", "shard")])
def test_the_words_of_a_proto_do_nothing_to_a_terminal(package: str, name: str) -> None:
    file = a_file(package=package)
    file.extension.add(name=name, number=78420, extendee=".google.protobuf.MethodOptions")

    (problem,) = read(a_set(file)).problems

    assert problem == "an option without a name has the number of Proa's own options, so those are not read"


def test_an_option_without_a_package_is_called_by_its_name() -> None:
    file = a_file(package="")
    file.extension.add(name="shard", number=78420, extendee=".google.protobuf.MethodOptions")

    assert read(a_set(file)).problems[0].startswith("shard has the number of Proa's own options")


def test_our_own_declaration_beside_the_file_and_other_numbers_are_no_trouble() -> None:
    own, other = FileDescriptorProto(), a_file(S=[{"name": "M", "options": an_option(retry={"disabled": True})}])
    options_pb2.DESCRIPTOR.CopyToProto(own)
    other.extension.add(name="shard", number=50001, extendee=".google.protobuf.MethodOptions")
    other.extension.add(name="shard", number=78420, extendee=".google.protobuf.FieldOptions")

    reading = read(a_set(own, other))

    assert not reading.problems
    assert reading.schema.methods[0].options.retry == Retry(disabled=True)


@pytest.mark.parametrize("content", [b"\xff", b"\x0a\xff", b"x" * (LARGEST_OPTIONS + 1)])
def test_options_that_cannot_be_read_spoil_only_themselves(content: bytes) -> None:
    options = len_field(78420, content) + len_field(72295728, content)
    method = len_field(1, b"M") + len_field(4, options)

    reading = read(len_field(1, len_field(6, len_field(1, b"S") + len_field(2, method))))

    assert reading.schema == Schema((Method("S", "M"),))
    assert reading.problems == ("S/M: its google.api.http cannot be read", "S/M: its Proa options cannot be read")


def test_options_that_are_too_large_are_not_read() -> None:
    method, problems = the_method(an_option(authorization={"callers": [f"caller-{n}" for n in range(8000)]}))

    assert method.options == CallOptions()
    assert "shop.v1.S/M: its Proa options cannot be read" in problems


def test_options_in_parts_are_read_as_one_as_protobuf_does() -> None:
    one = an_option(timeouts={"request": {"seconds": 1}}).SerializeToString()
    other = an_option(retry={"disabled": True}).SerializeToString()
    together = CallOptions(Timeouts(request=timedelta(seconds=1)), Retry(disabled=True))

    for options in (len_field(4, one + other), len_field(4, one) + len_field(4, other)):
        service = len_field(1, b"S") + len_field(2, len_field(1, b"M") + options)
        (method,) = read(len_field(1, len_field(6, service))).schema.methods
        assert method.options == together


def test_options_that_are_no_message_are_none() -> None:
    method = len_field(1, b"M") + len_field(4, b"\xff")

    reading = read(len_field(1, len_field(6, len_field(1, b"S") + len_field(2, method))))

    assert reading.schema == Schema((Method("S", "M"),))
    assert len(reading.problems) == 2
