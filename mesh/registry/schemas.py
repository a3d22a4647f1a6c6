"""How an offer, a push or a change of documents changes what is known of methods. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from mesh.config.fields import is_label
from mesh.config.nearest import did_you_mean
from mesh.errors import LimitError, NotFoundError, UsageError
from mesh.model.descriptors import Reading
from mesh.model.documents import Key
from mesh.model.workload import Workload
from mesh.registry.known import NOTHING_READ, Known, Offer, Origin
from mesh.registry.state import State

MOST_BYTES: Final = 256 * 1024 * 1024
"""Of all descriptors together, each content counted once."""

MOST_PUSHES: Final = 10_000
FORGET: Final = "Forget some that were pushed: proa schema delete SERVICE"
LATER: Final = "Before it is there: --allow-unresolved"
FULL: Final = f"all descriptors together have more than {MOST_BYTES >> 20} MiB"


def reading_of(state: State, digest: str) -> Reading | None:
    """What was read from the descriptors with this digest, None when they are not there."""
    return next((known.reading for known in state.known.values() if digest and known.digest == digest), None)


def observed(state: State, namespace: str, workload: str, offer: Offer, reading: Reading, now: datetime) -> State:
    """The state after a workload has told what it has. An offer that is older than the last one changes nothing."""
    if Key("Workload", namespace, workload) not in state.in_force():
        return state
    origin = Origin(namespace, workload)
    before = state.known.get(origin)
    if before and before.offer.read_at > offer.read_at:
        return state
    after = _with(state, origin, _next(before, offer, reading, now))
    if _size(after.known.values()) <= MOST_BYTES:
        return after
    refused = replace(offer, digest="", size=0, undescribed=(), problem=FULL)
    return _with(state, origin, _next(before, refused, reading, now))


def pushed(
    state: State, origin: Origin, offer: Offer, reading: Reading, now: datetime, *, allow_unresolved: bool
) -> State:
    """The state after descriptors were pushed for a service. Raises NotFoundError, UsageError and LimitError."""
    where = f"{origin.namespace}/{origin.service}"
    if not allow_unresolved:
        _check_known(state, origin, where)
    elif not all(map(is_label, (origin.namespace, origin.service, origin.version or "any"))):
        raise UsageError(ascii(where), "this cannot be the name of a service or version", "Use a-z, 0-9 and -")
    if not reading.schema.methods:
        problem = f"no method can be read from it ({'; '.join(reading.problems) or 'it has no service'})"
        raise UsageError(where, problem, "Make it with protoc --include_imports --descriptor_set_out=FILE")
    after = _with(state, origin, _next(state.known.get(origin), offer, reading, now))
    if _size(after.known.values()) > MOST_BYTES:
        raise LimitError(where, FULL, FORGET)
    if sum(1 for one in after.known if one.service) > MOST_PUSHES:
        raise LimitError(where, f"there are more than {MOST_PUSHES} pushes", FORGET)
    return after


def forgotten(state: State, origin: Origin) -> State:
    """The state without what was pushed. Raises NotFoundError when nothing was."""
    if origin not in state.known:
        there = sorted(f"{one.namespace}/{one.service}" for one in state.known if one.service)
        remedy = f"Something was pushed for {', '.join(there)}" if there else "Nothing was pushed for any service"
        raise NotFoundError(f"{origin.namespace}/{origin.service}", "nothing was pushed for it", remedy)
    return replace(state, known={one: known for one, known in state.known.items() if one != origin})


def of_workloads_in_force(state: State) -> Mapping[Origin, Known]:
    """What is known without what workloads have told that are gone. What was pushed stays until it is deleted."""
    there = {(key.namespace, key.name) for key in state.in_force() if key.kind == "Workload"}
    return {one: known for one, known in state.known.items() if one.service or (one.namespace, one.workload) in there}


def _next(before: Known | None, offer: Offer, reading: Reading, now: datetime) -> Known:
    if not offer.digest:
        kept = before or Known(offer, "", 0, now, NOTHING_READ)
        return replace(kept, offer=offer)
    since = before.since if before and before.digest == offer.digest else now
    return Known(offer, offer.digest, offer.size, since, reading)


def _with(state: State, origin: Origin, known: Known) -> State:
    return replace(state, known={**state.known, origin: known})


def _size(known: Iterable[Known]) -> int:
    return sum({one.digest: one.size for one in known}.values())


def _check_known(state: State, origin: Origin, where: str) -> None:
    workloads = [kept.resource for kept in state.in_force().values() if isinstance(kept.resource, Workload)]
    versions = {w.version for w in workloads if (w.namespace, w.service) == (origin.namespace, origin.service)}
    if not versions:
        names = sorted({f"{workload.namespace}/{workload.service}" for workload in workloads})
        remedy = did_you_mean(where, names, f"Services: {', '.join(names) or 'none'}. {LATER}")
        raise NotFoundError(where, "there is no such service", remedy)
    if origin.version and origin.version not in versions:
        remedy = did_you_mean(origin.version, versions, f"Its versions: {', '.join(sorted(versions))}. {LATER}")
        raise NotFoundError(where, f"it has no version {origin.version}", remedy)
