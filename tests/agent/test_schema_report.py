"""How an agent tells the control plane what its service has."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from bookstore.catalog.v1 import catalog_pb2
from bookstore.orders.v1 import orders_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_reflection.v1alpha import reflection

import mesh.agent.schema
from mesh.agent.reflection import Reflected, ReflectionError
from mesh.agent.schema import SchemaReport
from mesh.api.proa.v1 import schema_pb2, schema_pb2_grpc
from mesh.model.descriptors import digest_of, read
from mesh.model.names import InstanceId

ORDERS = InstanceId("shop", "orders", "orders-0")
Eventually = Callable[[Callable[[], object]], Awaitable[None]]


@dataclass
class ControlPlane(schema_pb2_grpc.SchemaServiceServicer):
    """Takes what it does not know, but first refuses some offers."""

    refusals: list[grpc.StatusCode] = field(default_factory=list)
    offers: list[schema_pb2.SchemaOffer] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)

    async def ReportSchema(
        self, request_iterator: AsyncIterator[schema_pb2.ReportSchemaRequest], context: Any
    ) -> AsyncIterator[schema_pb2.ReportSchemaResponse]:
        offer = (await anext(request_iterator)).offer
        if self.refusals:
            await context.abort(self.refusals.pop(0), "not now")
        if offer.digest and offer.digest not in self.contents:
            yield schema_pb2.ReportSchemaResponse(wanted=schema_pb2.SchemaWanted())
            content = b"".join([message.piece async for message in request_iterator])
            assert digest_of(content) == offer.digest
            self.contents[offer.digest] = content
        self.offers.append(offer)
        yield schema_pb2.ReportSchemaResponse(kept=schema_pb2.SchemaKept())

    @asynccontextmanager
    async def told_by(
        self, ports: list[int], file: str = "", changed: Callable[[], None] = lambda: None
    ) -> AsyncIterator[SchemaReport]:
        """A report to this control plane, running."""
        server = grpc.aio.server()
        schema_pb2_grpc.add_SchemaServiceServicer_to_server(self, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            report = SchemaReport(schema_pb2_grpc.SchemaServiceStub(channel), ORDERS, ports, file, changed)
            task = asyncio.create_task(report.run())
            try:
                yield report
            finally:
                task.cancel()
                await server.stop(None)


@asynccontextmanager
async def reflecting(*services: str) -> AsyncIterator[int]:
    """The port of a gRPC server that tells these services, if there are any."""
    server = grpc.aio.server()
    if services:
        reflection.enable_server_reflection(services, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)


CATALOG = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"].full_name
ORDERS_SERVICE = orders_pb2.DESCRIPTOR.services_by_name["OrderService"].full_name


@pytest.fixture
def control_plane() -> ControlPlane:
    return ControlPlane()


async def test_it_is_told_when_the_service_becomes_healthy_and_not_again(
    control_plane: ControlPlane, eventually: Eventually
) -> None:
    async with reflecting(CATALOG) as port, control_plane.told_by([port]) as report:
        report.attached()
        report.service_is(healthy=False)
        report.service_is(healthy=True)
        await eventually(lambda: control_plane.offers)
        report.service_is(healthy=True)

        report.attached()
        await eventually(lambda: len(control_plane.offers) == 2)

    first, again = control_plane.offers
    assert first == again, "to a control plane that may be another one the same is said"
    assert (first.namespace, first.workload, first.instance) == ("shop", "orders", "orders-0")
    assert first.source == schema_pb2.SCHEMA_SOURCE_REFLECTION
    assert read(control_plane.contents[first.digest]).schema.services == (CATALOG,)
    assert len(control_plane.contents) == 1


async def test_it_says_when_nothing_is_left_to_tell(control_plane: ControlPlane, eventually: Eventually) -> None:
    seen: list[bool] = []
    async with (
        reflecting(CATALOG) as port,
        control_plane.told_by([port], changed=lambda: seen.append(report.told)) as report,
    ):
        assert not report.told
        report.service_is(healthy=True)
        await eventually(lambda: report.told)
        assert control_plane.offers

        report.service_is(healthy=False)
        assert report.told
        report.service_is(healthy=True)
        assert not report.told, "it may be another service"
        await eventually(lambda: report.told)

    assert seen == [True, True]


async def test_a_service_that_was_away_is_asked_again(control_plane: ControlPlane, eventually: Eventually) -> None:
    async with reflecting(CATALOG) as port, control_plane.told_by([port]) as report:
        report.service_is(healthy=True)
        await eventually(lambda: control_plane.offers)
        report.service_is(healthy=False)
        report.service_is(healthy=True)
        await eventually(lambda: len(control_plane.offers) == 2)

    first, second = control_plane.offers
    assert second.digest == first.digest
    assert second.read_at.ToNanoseconds() > first.read_at.ToNanoseconds()


@pytest.mark.parametrize("code", [grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAVAILABLE])
async def test_a_refusal_is_tried_again(
    control_plane: ControlPlane, eventually: Eventually, code: grpc.StatusCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh.agent.schema, "FIRST_WAIT", mesh.agent.schema.FIRST_WAIT / 20)
    control_plane.refusals = [code, code]
    async with reflecting(CATALOG) as port, control_plane.told_by([port]) as report:
        report.service_is(healthy=True)
        await eventually(lambda: control_plane.offers)

    assert control_plane.refusals == []


async def test_a_service_that_was_too_slow_is_asked_again_and_only_what_is_new_is_told(
    control_plane: ControlPlane, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh.agent.schema, "AGAIN", timedelta(milliseconds=20))
    answers = [ReflectionError("slow", may_pass=True)] * 3

    async def reflect(port: int) -> Reflected:
        if answers and port == 2:
            raise answers.pop()
        return Reflected(undescribed=(f"shop.v1.{port}",))

    monkeypatch.setattr(mesh.agent.schema, "reflect", reflect)
    async with control_plane.told_by([1, 2]) as report:
        report.service_is(healthy=True)
        await eventually(lambda: len(control_plane.offers) == 2)

    first, second = (list(offer.undescribed) for offer in control_plane.offers)
    assert first == ["127.0.0.1:2", "shop.v1.1"]
    assert second == ["shop.v1.1", "shop.v1.2"]


async def test_one_port_that_was_too_slow_is_reason_enough_to_ask_again(
    control_plane: ControlPlane, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh.agent.schema, "AGAIN", timedelta(milliseconds=20))
    asked: list[int] = []

    async def reflect(port: int) -> Reflected:
        asked.append(port)
        if len(asked) <= 2 or port == 2:
            raise ReflectionError("no", may_pass=port == 1)
        return Reflected(undescribed=("shop.v1.Late",))

    monkeypatch.setattr(mesh.agent.schema, "reflect", reflect)
    async with control_plane.told_by([1, 2]) as report:
        report.service_is(healthy=True)
        await eventually(lambda: len(control_plane.offers) == 2)

    assert "shop.v1.Late" in control_plane.offers[1].undescribed


@pytest.mark.parametrize(("may_pass", "healthy"), [(False, True), (True, False)])
async def test_a_service_that_is_ill_or_has_no_reflection_is_not_asked_again(
    control_plane: ControlPlane, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, may_pass: bool, healthy: bool
) -> None:
    monkeypatch.setattr(mesh.agent.schema, "AGAIN", timedelta(milliseconds=1))
    asked: list[int] = []

    async def reflect(port: int) -> Reflected:
        asked.append(port)
        report.service_is(healthy=healthy)
        raise ReflectionError("no", may_pass=may_pass)

    monkeypatch.setattr(mesh.agent.schema, "reflect", reflect)
    async with control_plane.told_by([1]) as report:
        report.service_is(healthy=True)
        await eventually(lambda: control_plane.offers)
        await asyncio.sleep(0.2)  # two hundred times as long as it would take

    assert asked == [1]


async def test_a_refusal_that_will_stay_is_not_tried_again(
    control_plane: ControlPlane, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh.agent.schema, "FIRST_WAIT", mesh.agent.schema.FIRST_WAIT / 100)
    control_plane.refusals = [grpc.StatusCode.RESOURCE_EXHAUSTED] * 2
    async with reflecting(CATALOG) as port, control_plane.told_by([port]) as report:
        report.service_is(healthy=True)
        await eventually(lambda: len(control_plane.refusals) == 1)
        await asyncio.sleep(0.3)  # thirty times as long as the first wait
        assert len(control_plane.refusals) == 1
        report.attached()
        await eventually(lambda: not control_plane.refusals)


class Ending:
    """A stream that the control plane ends while descriptors are sent."""

    async def write(self, message: schema_pb2.ReportSchemaRequest) -> None:
        if message.HasField("piece"):
            raise asyncio.InvalidStateError

    async def read(self) -> schema_pb2.ReportSchemaResponse:
        return schema_pb2.ReportSchemaResponse(wanted=schema_pb2.SchemaWanted())


async def test_a_stream_that_ends_is_opened_again(eventually: Eventually, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh.agent.schema, "FIRST_WAIT", mesh.agent.schema.FIRST_WAIT / 100)
    opened: list[Ending] = []

    class Stub:
        def ReportSchema(self, timeout: float) -> Ending:
            opened.append(Ending())
            return opened[-1]

    stub: Any = Stub()
    async with reflecting(CATALOG) as port:
        report = SchemaReport(stub, ORDERS, [port], "", lambda: None)
        task = asyncio.create_task(report.run())
        report.service_is(healthy=True)
        await eventually(lambda: len(opened) == 3 or task.done())
        assert not task.done()
        task.cancel()


async def test_ports_that_tell_too_much_together_tell_nothing(
    control_plane: ControlPlane, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reflect(port: int) -> Reflected:
        return Reflected(((f"{port}.proto", b"x" * (9 * 1024 * 1024)),))

    monkeypatch.setattr(mesh.agent.schema, "reflect", reflect)
    async with control_plane.told_by([1, 2]) as report:
        report.service_is(healthy=True)
        await eventually(lambda: control_plane.offers)

    assert control_plane.offers[0].problem == "its descriptors have more than 16 MiB"


async def test_of_a_file_without_end_no_more_is_read_than_counts(
    control_plane: ControlPlane, eventually: Eventually, tmp_path: Path
) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(2**42)  # 4 TiB that no disk holds

    async with control_plane.told_by([1], str(path)) as report:
        report.service_is(healthy=True)
        await eventually(lambda: control_plane.offers)

    assert control_plane.offers[0].problem.endswith("it has more than 16 MiB")


async def test_a_service_without_reflection_is_told_with_its_reason(
    control_plane: ControlPlane, eventually: Eventually
) -> None:
    async with reflecting() as port, control_plane.told_by([port]) as report:
        report.service_is(healthy=True)
        await eventually(lambda: control_plane.offers)

    (offer,) = control_plane.offers
    assert (offer.digest, offer.problem) == ("", "it does not answer server reflection")


@pytest.mark.parametrize(
    ("services", "undescribed", "problem"),
    [
        (["shop.v1.Dark"], ["shop.v1.Dark"], ""),
        ([""], [], "its server reflection names no service"),
    ],
)
async def test_a_service_that_names_nothing_or_describes_nothing_is_told_with_that(
    control_plane: ControlPlane, eventually: Eventually, services: list[str], undescribed: list[str], problem: str
) -> None:
    async with reflecting(*services) as port, control_plane.told_by([port]) as report:
        report.service_is(healthy=True)
        await eventually(lambda: control_plane.offers)

    (offer,) = control_plane.offers
    assert (offer.digest, list(offer.undescribed), offer.problem) == ("", undescribed, problem)


async def test_all_ports_are_asked_and_what_one_hides_is_said(
    control_plane: ControlPlane, eventually: Eventually
) -> None:
    async with (
        reflecting(CATALOG) as one,
        reflecting(ORDERS_SERVICE) as two,
        reflecting() as silent,
        control_plane.told_by([one, two, silent]) as report,
    ):
        report.service_is(healthy=True)
        await eventually(lambda: control_plane.offers)

    (offer,) = control_plane.offers
    assert list(offer.undescribed) == [f"127.0.0.1:{silent}"]
    assert read(control_plane.contents[offer.digest]).schema.services == (CATALOG, ORDERS_SERVICE)


async def test_a_large_file_is_sent_in_pieces(
    control_plane: ControlPlane, eventually: Eventually, tmp_path: Path
) -> None:
    file = FileDescriptorProto(name="a.proto")
    file.service.add(name="S").method.add(name="M")
    file.options.java_package = "x" * (5 * 1024 * 1024)
    path = tmp_path / "a.binpb"
    path.write_bytes(FileDescriptorSet(file=[file]).SerializeToString())

    async with control_plane.told_by([1], str(path)) as report:
        report.service_is(healthy=True)
        await eventually(lambda: control_plane.offers)

    (offer,) = control_plane.offers
    assert offer.source == schema_pb2.SCHEMA_SOURCE_FILE
    assert control_plane.contents[offer.digest] == path.read_bytes()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "descriptorSet {path} cannot be read: No such file or directory"),
        (b"", "descriptorSet {path} cannot be used: it has no method"),
        (b"garbage", "descriptorSet {path} cannot be used: it is no protobuf message"),
        (b"\0" * (16 * 1024 * 1024 + 1), "descriptorSet {path} cannot be used: it has more than 16 MiB"),
    ],
)
async def test_a_file_that_cannot_be_used_is_said(
    control_plane: ControlPlane, eventually: Eventually, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "a.binpb"
    if content is not None:
        path.write_bytes(content)

    async with control_plane.told_by([1], str(path)) as report:
        report.service_is(healthy=True)
        await eventually(lambda: control_plane.offers)

    (offer,) = control_plane.offers
    assert (offer.digest, offer.problem) == ("", problem.format(path=path))


async def test_a_service_that_does_not_speak_grpc_tells_nothing(control_plane: ControlPlane) -> None:
    async with asyncio.timeout(5):
        stub: Any = None
        report = SchemaReport(stub, ORDERS, [], "", lambda: None)
        await report.run()
        assert report.told
