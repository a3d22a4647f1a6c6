"""The truth about the mesh: in memory, written through to the store, with one notification for whoever follows it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from mesh.config import Parsed
from mesh.errors import ConfigError, NotFoundError
from mesh.model.descriptors import Reading, digest_of, read
from mesh.model.documents import Documents, Key
from mesh.model.names import Identity, InstanceId
from mesh.model.topology import Topology
from mesh.registry import documents, operations, revocations, schemas
from mesh.registry.audit import Entry, entries
from mesh.registry.caller import CALLER
from mesh.registry.changes import Changes
from mesh.registry.documents import Outcome
from mesh.registry.known import NOTHING_READ, Offer, Origin, Source
from mesh.registry.leases import TERM, Addresses, Lease, Report, next_end, over, reported
from mesh.registry.operations import Desired
from mesh.registry.state import State
from mesh.registry.store import Store
from mesh.registry.tokens import Tokens

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What follows from a state, found out once, and before the state is written: nothing unusable is ever kept."""

    documents: Documents
    topology: Topology
    workloads: tuple[Desired, ...]

    @classmethod
    def of(cls, state: State) -> "_Meaning":
        documents = state.documents()
        return cls(documents, state.topology(), operations.desired(state))


class Registry:
    """Answers from memory; a change is on disk before it counts, and counts before its call returns.

    One whose caller goes away half-way is finished nevertheless, so that memory and disk never differ.
    `now` is the time of day, for ages; `uptime` a monotonic clock, for terms. Changing methods raise StateError when
    the state cannot be written; then nothing has changed.
    """

    def __init__(
        self,
        store: Store,
        state: State,
        leases: Iterable[Lease] = (),
        *,
        now: Callable[[], datetime],
        uptime: Callable[[], timedelta],
        term: timedelta = TERM,
    ) -> None:
        self.changed = Changes()
        self.revoked = Changes()
        self.ended = 0
        """How many leases have ended since this process began."""
        self.term = term
        self.tokens = Tokens(store, now)
        self._store = store
        self._now = now
        self._uptime = uptime
        self._leases = {lease.id: lease for lease in leases}
        # Nobody is connected yet, so each lease that was stored gets one full term.
        self._ends = dict.fromkeys(self._leases, uptime() + term)
        self._writing = asyncio.Lock()
        self._followers: list[set[InstanceId]] = []
        self._unfinished: set[asyncio.Task[Any]] = set()
        self._state = state
        self._meaning = _Meaning.of(state)

    @classmethod
    async def load(
        cls, store: Store, *, now: Callable[[], datetime], uptime: Callable[[], timedelta], term: timedelta = TERM
    ) -> tuple["Registry", tuple[ConfigError, ...]]:
        """The registry as it was left, and the documents in the store that this version does not understand."""
        stored = await store.load()
        return cls(store, stored.state, stored.leases, now=now, uptime=uptime, term=term), stored.problems

    async def close(self) -> None:
        """Waits for what is being written, and closes the store."""
        await asyncio.gather(*self._unfinished, return_exceptions=True)
        await self._store.close()

    @property
    def state(self) -> State:
        return self._state

    @property
    def documents(self) -> Documents:
        """The documents in force."""
        return self._meaning.documents

    def leaf_lifetime(self) -> timedelta:
        """For how long a certificate is signed now."""
        return self.documents.mesh.leaf_lifetime

    @property
    def topology(self) -> Topology:
        return self._meaning.topology

    @property
    def workloads(self) -> tuple[Desired, ...]:
        """What should run, sorted by namespace and name."""
        return self._meaning.workloads

    @property
    def leases(self) -> Mapping[InstanceId, Lease]:
        return self._leases

    def follow_leases(self) -> set[InstanceId]:
        """A set with all of them, to which each that comes, changes or goes is added. The caller empties it."""
        followed = set(self._leases)
        self._followers.append(followed)
        return followed

    def attached(self, instance: InstanceId) -> bool:
        """Whether the agent of the instance is connected."""
        return instance in self._leases and instance not in self._ends

    def identity_of(self, node_id: str) -> str | None:
        """The SPIFFE id that whoever claims this node id must prove, None for a node that is not attached."""
        try:
            lease = self._leases.get(InstanceId.from_node_id(node_id))
        except ValueError:
            return None
        return lease.identity.uri if lease else None

    async def apply(self, call: Parsed, *, allow_unresolved: bool = False) -> Outcome:
        return await self._change(
            lambda state: documents.apply(state, call, self._now(), allow_unresolved=allow_unresolved)
        )

    async def replace_file_set(self, call: Parsed) -> Outcome:
        return await self._change(lambda state: documents.replace_file_set(state, call, self._now()))

    async def delete(self, keys: Iterable[Key]) -> Outcome:
        """Raises NotFoundError."""
        return await self._change(lambda state: documents.delete(state, keys))

    async def scale(self, namespace: str, name: str, replicas: int) -> Desired:
        """Raises NotFoundError and UsageError."""
        outcome = await self._change(lambda state: Outcome(operations.scale(state, namespace, name, replicas)))
        return operations.desired_one(outcome.state, namespace, name)

    async def restart(self, namespace: str, name: str) -> Desired:
        """Raises NotFoundError."""
        outcome = await self._change(lambda state: Outcome(operations.restart(state, namespace, name)))
        return operations.desired_one(outcome.state, namespace, name)

    async def revoke(self, name: str) -> datetime:
        """Takes a SPIFFE id or a certificate by its serial number back; since when. Raises LimitError."""
        outcome = await self._change(lambda state: Outcome(revocations.revoked(state, name, self._now())))
        self.revoked.notify()
        await self._forget_revoked()
        return outcome.state.revoked[name]

    async def restore(self, name: str) -> None:
        """Raises NotFoundError when it was not revoked."""
        await self._change(lambda state: Outcome(revocations.restored(state, name)))

    def is_revoked(self, *names: str) -> bool:
        """Whether one of these SPIFFE ids and serial numbers is."""
        return not self._state.revoked.keys().isdisjoint(names)

    async def audit(self, most: int) -> tuple[Entry, ...]:
        """The newest first."""
        return await self._store.audit(most)

    async def note(self, what: str, subject: str) -> None:
        """Writes down a change of something that is not kept here."""
        await self._store.note(Entry(self._now(), CALLER.get().name, what, subject))

    async def observe_schema(self, instance: InstanceId, offer: Offer, content: bytes | None) -> None:
        """Keeps what the agent of an instance has read; `content` None when the registry has it already.

        Raises NotFoundError when it has not.
        """
        reading = schemas.reading_of(self._state, offer.digest)
        if offer.digest and not reading:
            if content is None:
                raise NotFoundError(instance.node_id, "its descriptors are not known", "Send them")
            reading = await asyncio.to_thread(read, content)
        got = (instance.namespace, instance.workload, offer, reading or NOTHING_READ)
        await self._learn(lambda state: schemas.observed(state, *got, self._now()), offer, content)

    async def push_schema(self, origin: Origin, content: bytes, *, allow_unresolved: bool = False) -> Reading:
        """Keeps descriptors for a service, which may come later if that is allowed.

        Raises NotFoundError, UsageError and LimitError.
        """
        reading = await asyncio.to_thread(read, content)
        offer = Offer(Source.PUSH, digest_of(content), len(content), self._now())
        await self._learn(
            lambda state: schemas.pushed(state, origin, offer, reading, self._now(), allow_unresolved=allow_unresolved),
            offer,
            content,
        )
        return reading

    async def forget_schema(self, origin: Origin) -> None:
        """Forgets what was pushed. Raises NotFoundError."""
        await self._change(lambda state: Outcome(schemas.forgotten(state, origin)))

    async def attach(self, instance: InstanceId, generation: str, addresses: Addresses) -> Lease:
        """The lease of an instance whose agent has just connected; it holds until `detach`.

        An instance that is known goes on as it was, also when its workload has been deleted meanwhile. Otherwise it
        is a new one of its workload. Raises NotFoundError when there is no such workload. A gRPC client needs none.
        """
        lease = await self._finish(self._write_attached(instance, generation, addresses))
        # Only here, where the caller still is: a lease whose stream broke during the write ends by its term.
        self._ends.pop(instance, None)
        self.changed.notify()
        return lease

    async def report(self, instance: InstanceId, report: Report) -> None:
        await self._edit(instance, lambda lease: reported(lease, report))

    async def drain(self, instance: InstanceId) -> None:
        """The instance is no endpoint any more."""
        await self._edit(instance, lambda lease: replace(lease, draining=True))

    def detach(self, instance: InstanceId, *, at_once: bool = False) -> None:
        """The stream of the agent has ended: the term begins, or with `at_once` is over already."""
        if instance in self._leases:
            self._ends[instance] = self._uptime() + (timedelta() if at_once else self.term)
            self.changed.notify()

    async def forget_detached(self) -> None:
        """Forgets the instances whose agents are not connected, whatever is left of their terms."""
        for instance in self._ends:
            self._ends[instance] = self._uptime()
        await self.expire()

    async def expire(self) -> tuple[InstanceId, ...]:
        """Forgets the instances whose term is over, and returns them."""
        return await self._finish(self._forget())

    def next_end(self) -> timedelta | None:
        """How long until the next term is over, None when no term runs. A change may bring it nearer."""
        return next_end(self._ends, self._uptime())

    async def _forget_revoked(self) -> None:
        """Whose identity is revoked is no endpoint any more, nor a node that anyone may claim to be."""
        for instance, lease in self._leases.items():
            if self.is_revoked(lease.identity.uri):
                self._ends[instance] = self._uptime()
        await self.expire()

    async def _learn(self, edit: Callable[[State], State], offer: Offer, content: bytes | None) -> None:
        descriptors = {} if content is None else {offer.digest: content}
        await self._finish(self._write_state(lambda state: Outcome(edit(state)), descriptors))

    async def _change(self, edit: Callable[[State], Outcome]) -> Outcome:
        return await self._finish(self._write_state(edit, {}))

    async def _write_state(self, edit: Callable[[State], Outcome], descriptors: Mapping[str, bytes]) -> Outcome:
        async with self._writing:
            outcome = edit(self._state)
            if outcome.state != self._state:
                meaning = _Meaning.of(outcome.state)
                audit = entries(self._state, outcome.state, self._now(), CALLER.get().name)
                await self._store.save(self._state, outcome.state, descriptors, audit)
                self._state, self._meaning = outcome.state, meaning
                self.changed.notify()
            return outcome

    def _new_lease(self, instance: InstanceId, generation: str, addresses: Addresses) -> Lease:
        if instance.service_account is None:
            wanted = operations.desired_one(self._state, instance.namespace, instance.workload)
        else:
            wanted = operations.client(instance.namespace, instance.service_account)
        identity = Identity(self._state.trust_domain, instance.namespace, wanted.workload.service_account)
        return Lease(instance, generation, wanted.workload, wanted.document, identity, addresses)

    async def _edit(self, instance: InstanceId, edit: Callable[[Lease], Lease]) -> None:
        await self._finish(self._write_edited(instance, edit))

    async def _write_attached(self, instance: InstanceId, generation: str, addresses: Addresses) -> Lease:
        async with self._writing:
            known = self._leases.get(instance)
            if known and known.generation == generation:
                lease = replace(known, addresses=addresses)
            else:
                lease = self._new_lease(instance, generation, addresses)
            await self._save(lease)
            self._ends[instance] = self._uptime() + self.term
            return lease

    async def _write_edited(self, instance: InstanceId, edit: Callable[[Lease], Lease]) -> None:
        async with self._writing:
            # One that was forgotten meanwhile has no stream any more that could wonder.
            if lease := self._leases.get(instance):
                await self._save(edit(lease))

    async def _save(self, lease: Lease) -> None:
        if lease != self._leases.get(lease.id):
            await self._store.save_lease(lease)
            self._leases[lease.id] = lease
            self._tell([lease.id])

    async def _forget(self) -> tuple[InstanceId, ...]:
        async with self._writing:
            gone = over(self._ends, self._uptime())
            if gone:
                await self._store.delete_leases(gone)
                for instance in gone:
                    del self._leases[instance], self._ends[instance]
                self.ended += len(gone)
                self._tell(gone)
            return gone

    def _tell(self, changed: Iterable[InstanceId]) -> None:
        for followed in self._followers:
            followed.update(changed)
        self.changed.notify()

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Does the work whatever becomes of the caller: a commit that nobody waits for is still remembered."""
        task = asyncio.create_task(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return await asyncio.shield(task)
