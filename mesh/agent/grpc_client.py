"""What runs beside gRPC clients without a sidecar: it keeps them attached as an account, and their files valid."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from mesh.agent.attachment import Attachment
from mesh.agent.certificate import Certificate, Validity
from mesh.agent.client_folder import ClientFolder
from mesh.agent.log import log
from mesh.agent.new_key import made_apart
from mesh.agent.program import cause_of, departure_on_signals, unless
from mesh.agent.server import answered, connect
from mesh.api.proa.v1 import agents_pb2, agents_pb2_grpc
from mesh.errors import MeshError
from mesh.model.topology import Address

LEAVING: Final = 2.0
"""Seconds for the control plane to take note that the client has left. Else the lease ends by its term."""

REMEDY: Final = "Correct it and start again"


async def run(
    server: str, namespace: str, service_account: str, folder: ClientFolder, ready: Callable[[Path], None]
) -> None:
    """Until SIGINT or SIGTERM; `ready` is called with the path of the bootstrap as soon as it can be used.

    Raises MeshError when the folder cannot be used, or the control plane refuses. One that is away is waited for.
    """
    try:
        await _run(server, namespace, service_account, folder, ready)
    except (MeshError, OSError, ExceptionGroup) as error:
        raise cause_of(error) from error


async def _run(
    server: str, namespace: str, service_account: str, folder: ClientFolder, ready: Callable[[Path], None]
) -> None:
    departure = departure_on_signals()
    folder.claim()
    client = folder.client(namespace, service_account)
    bootstrapped = asyncio.Event()

    def attached(answer: agents_pb2.Attached) -> None:
        if folder.keep_bootstrap(client, Address.parse(answer.xds)):
            log("bootstrap_written", path=folder.bootstrap)
        bootstrapped.set()

    async with connect(server) as channel:
        stub: agents_pb2_grpc.AgentServiceAsyncStub = agents_pb2_grpc.AgentServiceStub(channel)
        who = agents_pb2.SignCertificateRequest(namespace=namespace, service_account=service_account)
        certificate = Certificate(stub, who, folder.keep_certificate, made_apart)
        hello = agents_pb2.Hello(namespace=namespace, service_account=service_account, instance=client.instance)
        validity = await unless(departure, answered(client.node_id, certificate.obtain, REMEDY))
        if validity is None:
            return
        async with asyncio.TaskGroup() as tasks:
            attachment = Attachment(stub, hello, attached)
            running = tasks.create_task(attachment.run()), tasks.create_task(certificate.keep_valid(validity, _nothing))
            if await unless(departure, bootstrapped.wait()):
                ready(folder.bootstrap)
            await departure
            await _leave(attachment)
            for task in running:
                task.cancel()
    log("ended")


async def _leave(attachment: Attachment) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(LEAVING if attachment.is_known else 0):
            await attachment.drain()


async def _nothing(_: Validity) -> None:
    """The library looks at the files by itself, and tells nobody."""
