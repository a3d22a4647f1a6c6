"""What the agent learns from server reflection, from real servers and from such as no library would make."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from bookstore.catalog.v1 import catalog_pb2
from bookstore.orders.v1 import orders_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection, reflection_pb2

import mesh.agent.reflection
from mesh.agent.reflection import METHODS, Inquiry, Reflected, ReflectionError, reflect
from mesh.model.descriptors import LARGEST_SET, Reading, packed, read
from mesh.model.schema import Idempotency

V1, V1ALPHA = METHODS
Question, Answer = reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse
Servicer = Callable[[AsyncIterator[Question], Any], AsyncIterator[Answer]]

CATALOG = "bookstore.catalog.v1.CatalogService"
ORDERS = "bookstore.orders.v1.OrderService"


@asynccontextmanager
async def serving(servicer: Servicer | None, *paths: str) -> AsyncIterator[int]:
    """The port of a gRPC server that has this one method under these names."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    for path in paths:
        _, service, method = path.split("/")
        handler = grpc.stream_stream_rpc_method_handler(servicer, Question.FromString, Answer.SerializeToString)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


def real(*services: str) -> Servicer:
    servicer = reflection.aio.ReflectionServicer(services)
    return servicer.ServerReflectionInfo  # type: ignore[no-any-return]


def answering(answer: Callable[[Question], Answer]) -> Servicer:
    """A server that answers each question by a function."""

    async def servicer(questions: AsyncIterator[Question], context: Any) -> AsyncIterator[Answer]:
        async for question in questions:
            yield answer(question)

    return servicer


def services(*names: str) -> Answer:
    return Answer(list_services_response={"service": [{"name": name} for name in names]})


def files(*contents: bytes | FileDescriptorProto) -> Answer:
    protos = [one if isinstance(one, bytes) else one.SerializeToString() for one in contents]
    return Answer(file_descriptor_response={"file_descriptor_proto": protos})


def a_file(name: str, *services: str, imports: Iterable[str] = (), padding: int = 0) -> FileDescriptorProto:
    file = FileDescriptorProto(name=name, package="shop.v1", dependency=imports)
    for service in services:
        file.service.add(name=service).method.add(name="Get")
    file.options.java_package = "x" * padding
    return file


NO_SUCH = Answer(error_response={"error_code": 5, "error_message": "not found"})


def schema(found: Reflected) -> Reading:
    return read(packed(found.files))


@pytest.mark.parametrize("paths", [(V1ALPHA,), (V1,), (V1, V1ALPHA)], ids=["v1alpha only", "v1 only", "both"])
async def test_a_server_tells_all_methods_of_all_its_services(paths: tuple[str, ...]) -> None:
    async with serving(real(CATALOG, ORDERS, reflection.SERVICE_NAME), *paths) as port:
        found = await reflect(port)

    reading = schema(found)
    assert found.undescribed == ()
    assert not reading.problems
    assert reading.schema.services == (CATALOG, ORDERS, reflection.SERVICE_NAME)
    expected = {method.name for method in catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"].methods}
    assert {method.name for method in reading.schema.methods_of(CATALOG)} == expected
    search = reading.schema.method(CATALOG, "SearchBooks")
    assert search is not None
    assert (search.server_streaming, search.idempotency) == (True, Idempotency.NO_SIDE_EFFECTS)


async def test_imports_come_too_so_that_others_can_use_the_descriptors() -> None:
    async with serving(real(ORDERS), V1ALPHA) as port:
        found = await reflect(port)

    names = {name for name, _ in found.files}
    assert {orders_pb2.DESCRIPTOR.name, *(file.name for file in orders_pb2.DESCRIPTOR.dependencies)} <= names


async def test_services_that_are_in_a_file_and_not_served_are_left_out() -> None:
    answers = {"": services("shop.v1.Orders"), "shop.v1.Orders": files(a_file("a.proto", "Orders", "Stock"))}
    async with serving(answering(lambda q: answers[q.file_containing_symbol]), V1) as port:
        found = await reflect(port)

    assert schema(found).schema.services == ("shop.v1.Orders",)


async def test_a_server_that_sends_imports_only_when_asked_is_asked() -> None:
    known = {
        "shop.v1.Orders": a_file("a.proto", "Orders", "Stock", imports=["b.proto", "gone.proto"]),
        "b.proto": a_file("b.proto", imports=["c.proto", "a.proto", "gone.proto"]),
        "c.proto": a_file("c.proto", imports=["c.proto"]),
    }
    asked: list[str] = []

    def answer(question: Question) -> Answer:
        name = question.file_containing_symbol or question.file_by_filename
        asked.append(name)
        if question.HasField("list_services"):
            return services("shop.v1.Orders", "shop.v1.Stock")
        return files(known[name]) if name in known else NO_SUCH

    async with serving(answering(answer), V1) as port:
        found = await reflect(port)

    assert {name for name, _ in found.files} == {"a.proto", "b.proto", "c.proto"}
    assert sorted(asked) == ["", "b.proto", "c.proto", "gone.proto", "shop.v1.Orders"]


async def test_a_server_that_does_not_end_its_answers_has_no_more_than_a_few_open() -> None:
    counts = [0]

    async def lasting(questions: AsyncIterator[Question], context: Any) -> AsyncIterator[Answer]:
        question = await anext(questions)
        counts.append(counts[-1] + 1)
        try:
            yield services(*(f"s.S{n}" for n in range(50))) if question.HasField("list_services") else NO_SUCH
            await asyncio.Event().wait()
        finally:
            counts.append(counts[-1] - 1)

    async with serving(lasting, V1) as port:
        await reflect(port)

    assert max(counts) < 20


async def test_a_service_without_a_file_is_told_by_name() -> None:
    answers = {"shop.v1.Orders": files(a_file("a.proto", "Orders")), "": services("shop.v1.Orders", "shop.v1.Dark")}
    async with serving(answering(lambda q: answers.get(q.file_containing_symbol, NO_SUCH)), V1) as port:
        found = await reflect(port)

    assert found.undescribed == ("shop.v1.Dark",)
    assert schema(found).schema.services == ("shop.v1.Orders",)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(files(b"\xff\xfe\xfd"), id="garbage"),
        pytest.param(files(b""), id="an empty file"),
        pytest.param(files(a_file("", "Orders")), id="a file without a name"),
        pytest.param(files(a_file("a.proto", "Other")), id="a file without the service"),
        pytest.param(services("shop.v1.Orders", "shop.v1.More"), id="an answer to another question"),
        pytest.param(Answer(), id="an empty answer"),
        pytest.param(NO_SUCH, id="an error"),
    ],
)
async def test_a_server_that_lies_is_not_believed_and_does_no_harm(answer: Answer) -> None:
    def lie(question: Question) -> Answer:
        return services("shop.v1.Orders") if question.HasField("list_services") else answer

    async with serving(answering(lie), V1) as port:
        found = await reflect(port)

    assert found.undescribed == ("shop.v1.Orders",)
    assert schema(found).schema.methods == ()


async def test_a_server_without_reflection_is_said() -> None:
    async with serving(None) as port:
        for _ in range(50):  # the words must not depend on who is faster
            with pytest.raises(ReflectionError, match=r"^it does not answer server reflection$"):
                await reflect(port)


async def never(questions: AsyncIterator[Question], context: Any) -> AsyncIterator[Answer]:
    await asyncio.Event().wait()
    yield services()


async def test_a_server_that_hangs_costs_so_many_seconds_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh.agent.reflection, "SECONDS", 0.3)

    async with serving(never, V1) as port:
        with pytest.raises(ReflectionError, match=r"within 0.3 s$"):
            await reflect(port)


async def test_nobody_who_listens_is_as_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh.agent.reflection, "SECONDS", 0.3)

    with pytest.raises(ReflectionError, match=r"within 0.3 s$") as caught:
        await reflect(1)
    assert caught.value.may_pass


async def test_a_server_that_never_ends_telling_is_ended() -> None:
    def endless(question: Question) -> Answer:
        if question.HasField("list_services"):
            return services("shop.v1.Orders")
        number = int(question.file_by_filename.removesuffix(".proto") or 0) + 1
        return files(a_file(f"{number - 1}.proto", "Orders", imports=[f"{number}.proto"], padding=100_000))

    async with serving(answering(endless), V1) as port:
        with pytest.raises(ReflectionError, match=r"^its descriptors have more than 16 MiB$"):
            await reflect(port)


async def test_a_chain_of_small_files_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh.agent.reflection, "MOST_FILES", 20)

    def endless(question: Question) -> Answer:
        if question.HasField("list_services"):
            return services("shop.v1.Orders")
        number = int(question.file_by_filename.removesuffix(".proto") or 0)
        return files(a_file(f"{number}.proto", "Orders", imports=[f"{number + 1}.proto"]))

    async with serving(answering(endless), V1) as port:
        with pytest.raises(ReflectionError, match=r"more than 20 files$"):
            await reflect(port)


@pytest.mark.parametrize(
    ("code", "may_pass"), [(grpc.StatusCode.UNAVAILABLE, True), (grpc.StatusCode.PERMISSION_DENIED, False)]
)
async def test_a_server_that_is_about_to_end_may_answer_later(code: grpc.StatusCode, may_pass: bool) -> None:
    async def refusing(questions: AsyncIterator[Question], context: Any) -> AsyncIterator[Answer]:
        await context.abort(code, "no")
        yield Answer()

    async with serving(refusing, V1) as port:
        with pytest.raises(ReflectionError) as caught:
            await reflect(port)

    assert caught.value.may_pass is may_pass


async def test_very_many_small_files_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh.agent.reflection, "MOST_FILES", 50)
    many = files(*(a_file(f"{number}.proto") for number in range(51)))

    async with serving(answering(lambda q: services("a") if q.HasField("list_services") else many), V1) as port:
        with pytest.raises(ReflectionError, match=r"more than 50 files$"):
            await reflect(port)


def test_imports_that_are_sent_with_each_service_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh.agent.reflection, "MOST_FIELDS", 120)
    inquiry = Inquiry()
    inquiry.take(services("shop.v1.S99"))
    for service in (*"abcdefgh", "S99"):
        inquiry.take(files(a_file("import.proto", *"abcdefgh"), a_file(f"{service}.proto", service)))

    assert inquiry.result().undescribed == ()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(files(*[b""] * 2_000_000), id="empty files"),
        pytest.param(files(*[b"\x0a\0" * 200_000] * 40), id="files of empty fields"),
    ],
)
def test_an_answer_that_is_made_to_be_slow_is_given_up_soon(answer: Answer) -> None:
    inquiry = Inquiry()
    started = time.process_time()
    with suppress(ReflectionError):
        inquiry.take(answer)

    assert time.process_time() - started < 1
    assert inquiry.result() == Reflected()


async def test_one_answer_that_is_too_large_is_not_taken() -> None:
    huge = files(a_file("a.proto", "Orders", padding=LARGEST_SET + 2 * 1024 * 1024))

    async with serving(answering(lambda q: services("a") if q.HasField("list_services") else huge), V1) as port:
        with pytest.raises(ReflectionError, match=r"^its descriptors have more than 16 MiB$"):
            await reflect(port)


async def test_a_server_with_very_many_services_is_not_believed() -> None:
    async with serving(answering(lambda _: services(*(f"s.S{n}" for n in range(1001)))), V1) as port:
        with pytest.raises(ReflectionError, match=r"more than 1000 services$"):
            await reflect(port)


async def test_a_server_that_ends_without_an_answer_describes_nothing() -> None:
    async def short(questions: AsyncIterator[Question], context: Any) -> AsyncIterator[Answer]:
        if (await anext(questions)).HasField("list_services"):
            yield services("shop.v1.Orders")

    async with serving(short, V1) as port:
        assert await reflect(port) == Reflected(undescribed=("shop.v1.Orders",))


async def test_the_words_of_a_failing_server_are_for_people() -> None:
    async def failing(questions: AsyncIterator[Question], context: Any) -> AsyncIterator[Answer]:
        await context.abort(grpc.StatusCode.INTERNAL, "\x1b[2Jno " + "x" * 1000)
        yield Answer()

    async with serving(failing, V1) as port:
        with pytest.raises(ReflectionError) as caught:
            await reflect(port)

    said = str(caught.value)
    assert said.startswith("server reflection failed with INTERNAL:  [2Jno x")
    assert len(said) < 300
