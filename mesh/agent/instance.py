"""One instance: its parts wired together, the order in which they start, and how they end."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from mesh.agent.addresses import Addresses
from mesh.agent.attachment import Attachment
from mesh.agent.certificate import Certificate, Held
from mesh.agent.departure import Departure, callers_gone
from mesh.agent.envoy import Envoy
from mesh.agent.folders import Folders
from mesh.agent.launch import Launch, check, launch_for
from mesh.agent.loaded import LoadedCertificates
from mesh.agent.log import log
from mesh.agent.logfile import keep_short
from mesh.agent.plan import Plan
from mesh.agent.report import report_of
from mesh.agent.schema import SchemaReport
from mesh.agent.service import Service
from mesh.agent.sidecar import Sidecar
from mesh.agent.way import Way
from mesh.api.proa.v1 import agents_pb2
from mesh.model.workload import Protocol


class Instance:
    """Envoy, the service and the stream to the control plane. Its secrets are there already."""

    def __init__(
        self,
        way: Way,
        plan: Plan,
        addresses: Addresses,
        envoy: Envoy,
        folders: Folders,
        certificate: Certificate,
    ) -> None:
        self._plan = plan
        self._server = way.server
        self._addresses = addresses
        self._folders = folders
        self._bootstrapped = asyncio.Event()
        self._certificate = certificate
        self._attachment = Attachment(way.agents, self._hello(), self._attached, certificate.trust)
        ports = [addresses.app[port.number] for port in plan.ports if port.protocol is Protocol.GRPC]
        self._schema = SchemaReport(way.schemas, folders.id, ports, plan.descriptor_set, self._report)
        self._sidecar = Sidecar(envoy, folders, addresses, self._sidecar_changed)
        self._loaded = LoadedCertificates(self._sidecar.admin, certificate, self._report)
        self._service = Service(plan, addresses.app.values(), self._launch, folders.service_log, self._report)

    async def run(self, held: Held, departure: Awaitable[Departure]) -> None:
        """Starts everything in its order, keeps it running until `departure` comes, and ends it in its order.

        Nothing of it runs any more when this returns or raises. Raises an ExceptionGroup of StartError when the
        instance cannot go on as it is.
        """
        self._report()
        try:
            async with asyncio.TaskGroup() as tasks:
                sidecar = tasks.create_task(_after(self._bootstrapped.wait(), self._sidecar.run))
                service = tasks.create_task(_after(self._sidecar.listens(), self._service.run))
                beside = [
                    tasks.create_task(self._attachment.run()),
                    tasks.create_task(self._certificate.keep_valid(held, self._loaded.look)),
                    tasks.create_task(self._loaded.run()),
                    tasks.create_task(self._schema.run()),
                    tasks.create_task(keep_short(self._folders.service_log, self._folders.envoy_log)),
                ]
                how = await departure
                log("departing", how=how.name.lower())
                await callers_gone(how, self._attachment, self._sidecar.admin, self._plan.stop.drain)
                # The service's last calls go through its Envoy, so that ends after it.
                service.cancel()
                await self._service.stop(self._plan.stop.grace)
                sidecar.cancel()
                await self._sidecar.stop()
                for task in beside:
                    task.cancel()
        finally:
            self._service.kill()
            self._sidecar.kill()

    def _hello(self) -> agents_pb2.Hello:
        who = self._folders.id
        return agents_pb2.Hello(
            namespace=who.namespace,
            workload=who.workload,
            instance=who.instance,
            generation=self._plan.generation,
            addresses=self._addresses.message,
            server=self._server,
        )

    def _attached(self, attached: agents_pb2.Attached) -> None:
        """Keeps the bootstrap for the next start of Envoy; the first one starts it."""
        if self._folders.keep_bootstrap(attached.bootstrap) and self._bootstrapped.is_set():
            log("bootstrap_changed", effective="at the next start of Envoy")
        self._bootstrapped.set()
        self._schema.attached()

    def _sidecar_changed(self) -> None:
        if self._sidecar.state.ready:
            self._loaded.look()
        self._report()

    def _report(self) -> None:
        self._schema.service_is(healthy=self._service.state.healthy)
        self._attachment.report(
            report_of(
                self._service.state,
                self._sidecar.state,
                os.getpid(),
                self._loaded.found,
                schema_told=self._schema.told,
            )
        )

    def _launch(self) -> Launch:
        launch = launch_for(
            self._plan,
            self._addresses,
            inherited=os.environ,
            python=sys.executable,
            state=str(self._folders.workload),
        )
        check(launch, self._plan)
        return launch


async def _after(first: Coroutine[Any, Any, object], then: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await first
    await then()
