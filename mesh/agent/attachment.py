"""The stream that keeps this instance registered with the control plane, for as long as the agent lives."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import grpc

from mesh.agent.backoff import jittered, reconnects
from mesh.agent.log import log
from mesh.api.proa.v1 import agents_pb2, agents_pb2_grpc


class Attachment:
    """Opened again whenever it breaks. `attached` is called with each answer to the hello, `trusts` with whom to trust.

    A slow or absent control plane gets the newest report, not all of them.
    """

    def __init__(
        self,
        stub: "agents_pb2_grpc.AgentServiceAsyncStub",
        hello: agents_pb2.Hello,
        attached: Callable[[agents_pb2.Attached], None],
        trusts: Callable[[agents_pb2.Trust], None],
    ) -> None:
        self._stub = stub
        self._hello = hello
        self._attached = attached
        self._trusts = trusts
        self._report: agents_pb2.InstanceReport | None = None
        self._known = False
        self._draining = False
        self._drained = asyncio.Event()
        self._wake = asyncio.Event()

    @property
    def is_known(self) -> bool:
        """Whether the control plane has ever answered the hello."""
        return self._known

    async def run(self) -> None:
        """Until it is cancelled."""
        backoff = reconnects()
        said = ""
        while True:
            started = time.monotonic()
            why = await self._stream()
            lived = timedelta(seconds=time.monotonic() - started)
            if why != said:  # once for a control plane that is away, not once a second
                log("detached", why=why)
            said = why
            await asyncio.sleep(jittered(backoff.after(lived)).total_seconds())

    def report(self, report: agents_pb2.InstanceReport) -> None:
        self._report = report
        self._wake.set()

    async def drain(self) -> None:
        """Asks that nobody calls this instance any more; returns when nobody does."""
        self._draining = True
        self._wake.set()
        await self._drained.wait()

    async def _stream(self) -> str:
        """One stream, to its end; why it ended."""
        answered = asyncio.Event()
        call = self._stub.Attach(self._requests(answered))
        try:
            async for response in call:
                match response.WhichOneof("event"):
                    case "attached":
                        log("attached", node_id=response.attached.node_id)
                        self._known = True
                        if response.attached.HasField("trust"):
                            self._trusts(response.attached.trust)
                        self._attached(response.attached)
                        answered.set()
                    case "trust":
                        self._trusts(response.trust)
                    case "drained":
                        self._drained.set()
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        except asyncio.CancelledError:
            # A channel that is closed cancels its calls, and whoever waits for one is told so as if he were cancelled.
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            return "the channel was exchanged for one with another certificate"
        finally:
            call.cancel()
        return "the control plane ended the stream"

    async def _requests(self, answered: asyncio.Event) -> AsyncIterator[agents_pb2.AttachRequest]:
        yield agents_pb2.AttachRequest(hello=self._hello)
        await answered.wait()
        sent: agents_pb2.InstanceReport | None = None
        asked = False
        while True:
            self._wake.clear()
            if self._report is not None and self._report != sent:
                sent = self._report
                yield agents_pb2.AttachRequest(report=sent)
            elif self._draining and not asked:
                asked = True
                yield agents_pb2.AttachRequest(drain=agents_pb2.Drain())
            else:
                await self._wake.wait()
