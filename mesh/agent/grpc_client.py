"""What runs beside gRPC clients without a sidecar: it keeps them attached as an account, and their files valid."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from mesh.agent.attachment import Attachment
from mesh.agent.certificate import Certificate
from mesh.agent.client_folder import ClientFolder
from mesh.agent.log import log
from mesh.agent.new_key import made_apart
from mesh.agent.program import departure_on_signals, unless
from mesh.agent.server import answered
from mesh.agent.way import way_to
from mesh.api.proa.v1 import agents_pb2
from mesh.model.address import Address
from mesh.translate.grpc_bootstrap import REFRESH

LEAVING: Final = 2.0
"""Seconds for the control plane to take note that the client has left. Else the lease ends by its term."""

READ: Final = float(REFRESH.removesuffix("s")) + 1
"""Seconds until every program has read files that were exchanged. The library looks by itself, and tells nobody."""

REMEDY: Final = "Correct it and start again"


async def run(
    server: str,
    namespace: str,
    service_account: str,
    folder: ClientFolder,
    ready: Callable[[Path], None],
    token: Path | None = None,
) -> None:
    """Until SIGINT or SIGTERM; `ready` is called with the path of the bootstrap as soon as it can be used.

    Raises MeshError when the folder cannot be used, or the control plane refuses. One that is away is waited for.
    """
    departure = departure_on_signals()
    folder.claim()
    client = folder.client(namespace, service_account)
    bootstrapped = asyncio.Event()

    def attached(answer: agents_pb2.Attached) -> None:
        if folder.keep_bootstrap(client, Address.parse(answer.xds)):
            log("bootstrap_written", path=folder.bootstrap)
        bootstrapped.set()

    who = agents_pb2.SignCertificateRequest(namespace=namespace, service_account=service_account)
    before = folder.kept()
    async with way_to(server, who, token, before) as way:
        certificate = Certificate(way, who, folder.keep_certificate, made_apart, before)
        hello = agents_pb2.Hello(
            namespace=namespace, service_account=service_account, instance=client.instance, server=way.server
        )
        held = await unless(departure, answered(client.node_id, certificate.obtain, REMEDY))
        if held is None:
            return
        written = asyncio.Event()
        written.set()
        attachment = Attachment(way.agents, hello, attached, certificate.trust)
        async with asyncio.TaskGroup() as tasks:
            work = attachment.run(), certificate.keep_valid(held, written.set), _tell(attachment, certificate, written)
            running = [tasks.create_task(one) for one in work]
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


async def _tell(attachment: Attachment, certificate: Certificate, written: asyncio.Event) -> NoReturn:
    """Reports which certificate is in use, each time when nobody can have another one any more."""
    while True:
        await written.wait()
        written.clear()
        await asyncio.sleep(READ)
        if (held := certificate.held) and not written.is_set():
            loaded = agents_pb2.LoadedCertificate(
                serial=held.serial, issuer=held.trust.issuer, not_after=held.not_after, roots=held.trust.roots
            )
            attachment.report(agents_pb2.InstanceReport(agent_pid=os.getpid(), loaded=[loaded]))
