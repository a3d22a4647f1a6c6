"""How a call changes the documents: all of it or nothing, judged against what is in force afterwards. Pure."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from mesh.config import Parsed, Written
from mesh.config.nearest import not_found
from mesh.errors import ConfigError, NotFoundError
from mesh.model.documents import Documents, Key, Mesh
from mesh.model.topology import Topology
from mesh.model.workload import Workload
from mesh.policy.check import conflicts, remarks, unsafe
from mesh.policy.references import unknown_methods, unresolved
from mesh.registry.schemas import of_workloads_in_force
from mesh.registry.state import Kept, Operation, State


class Action(StrEnum):
    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one document. `shadows_file`: the file set has one of the same name, which does not count."""

    key: Key
    action: Action
    shadows_file: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call leads to. `problems` keep documents out, `warnings` do not; `left_out` counts documents."""

    state: State
    changes: tuple[Change, ...] = ()
    problems: tuple[ConfigError, ...] = ()
    warnings: tuple[ConfigError, ...] = ()
    left_out: int = 0


def together(files: Iterable[Parsed]) -> Parsed:
    """The files of one call as one. A document of a name that came before is left out."""
    files = tuple(files)
    documents = [written for parsed in files for written in parsed.documents]
    first: dict[Key, Written] = {}
    for written in documents:
        first.setdefault(written.key, written)
    twice = [_twice(written, first[written.key]) for written in documents if first[written.key] is not written]
    return Parsed(
        documents=tuple(first.values()),
        problems=(*(problem for parsed in files for problem in parsed.problems), *twice),
        left_out=sum(parsed.left_out for parsed in files) + len(twice),
    )


def apply(state: State, call: Parsed, now: datetime, *, allow_unresolved: bool = False) -> Outcome:
    """The documents of a call added to the applied set; with any problem nothing of them, and all problems.

    With `allow_unresolved` it is no problem, but a warning, that something is not there which they name.
    """
    call = _same_trust_domain(state, call)
    after = _next(state, replace(state, applied={**state.applied, **_kept(state.applied, call.documents, now)}))
    meant, topology = _meant(call.documents), after.topology()
    missing = (*unresolved(meant, topology), *unknown_methods(meant, topology))
    refused = () if allow_unresolved else missing
    if problems := (*call.problems, *refused, *unsafe(meant, topology)):
        return Outcome(state, problems=problems, left_out=len(call.documents) + call.left_out)
    keys = [written.key for written in call.documents]
    return Outcome(
        after,
        changes=tuple(_changes(keys, state.applied, after.applied, shadowing=state.file)),
        warnings=(*missing, *_remarks(call, after)),
    )


def replace_file_set(state: State, call: Parsed, now: datetime) -> Outcome:
    """The documents of a call in place of the whole file set. A bad one is left out, the others count.

    A workload with an upstream that is not there is no bad one: it runs without it, with a warning. Nor is what names a
    method that is not there: the services that start now may have it. Whatever was scaled has the replicas of its
    document again.
    """
    call = _with_targets(state, _same_trust_domain(state, call), now)
    file = _kept(state.file, call.documents, now)
    operations = {key: replace(operation, replicas=None) for key, operation in state.operations.items()}
    after = _next(state, replace(state, file=file, operations=operations))
    keys = sorted({**state.file, **file})
    meant, topology = _meant(call.documents), after.topology()
    doubtful = (*unresolved(meant, topology), *unknown_methods(meant, topology), *unsafe(meant, topology))
    return Outcome(
        after,
        changes=tuple(_changes(keys, state.file, file, shadowing=state.applied)),
        problems=call.problems,
        warnings=(*doubtful, *_remarks(call, after)),
        left_out=call.left_out,
    )


def delete(state: State, keys: Iterable[Key]) -> Outcome:
    """Without these applied documents. Raises NotFoundError when one of them is not there."""
    keys = tuple(dict.fromkeys(keys))
    for key in keys:
        if key not in state.applied:
            raise _not_applied(state, key)
    applied = {key: kept for key, kept in state.applied.items() if key not in keys}
    after = _next(state, replace(state, applied=applied))
    return Outcome(after, changes=tuple(_changes(keys, state.applied, applied, shadowing=state.file)))


def _next(before: State, after: State) -> State:
    """`after` with what follows from it: its revision, its trust domain, and which scalings still hold."""
    old, new = before.in_force(), after.in_force()
    operations = {
        key: replace(operation, replicas=None) if _differ(old.get(key), new.get(key)) else operation
        for key, operation in after.operations.items()
    }
    return replace(
        after,
        operations={key: operation for key, operation in operations.items() if operation != Operation()},
        known=of_workloads_in_force(after),
        revision=before.revision + _changed(before, after),
        trust_domain=before.trust_domain or (after.documents().mesh.trust_domain if new else ""),
    )


def _changed(before: State, after: State) -> bool:
    return any(
        _differ(old.get(key), new.get(key))
        for old, new in ((before.file, after.file), (before.applied, after.applied))
        for key in {**old, **new}
    )


def _differ(one: Kept | None, other: Kept | None) -> bool:
    """Whether they say different things, wherever they are written."""
    if one is None or other is None or one is other:
        return one is not other
    return bool(json.loads(one.written.json) != json.loads(other.written.json))


def _kept(before: Mapping[Key, Kept], documents: Iterable[Written], now: datetime) -> dict[Key, Kept]:
    """The documents as their set keeps them; one that replaces another takes over its age."""
    ages = {key: kept.first_applied_at for key, kept in before.items()}
    return {written.key: Kept(written, ages.get(written.key, now)) for written in documents}


def _changes(
    keys: Iterable[Key], before: Mapping[Key, Kept], after: Mapping[Key, Kept], shadowing: Mapping[Key, Kept]
) -> Iterator[Change]:
    for key in keys:
        yield Change(key, _action(before.get(key), after.get(key)), shadows_file=key in shadowing)


def _action(before: Kept | None, after: Kept | None) -> Action:
    if after is None:
        return Action.DELETED
    if before is None:
        return Action.CREATED
    return Action.CONFIGURED if _differ(before, after) else Action.UNCHANGED


def _remarks(call: Parsed, after: State) -> tuple[ConfigError, ...]:
    """Where documents of the call give way to others that are in force, or do not do what they seem to."""
    places = {written.where for written in call.documents}
    documents, topology = after.documents(), after.topology()
    given_way = (error for error in conflicts(documents, topology) if error.where in places)
    return (*given_way, *remarks(_meant(call.documents), topology, documents.grants))


def _meant(documents: Iterable[Written]) -> Documents:
    return Documents.of(written.resource for written in documents)


def _same_trust_domain(state: State, call: Parsed) -> Parsed:
    """Without a Mesh document that names another trust domain than the one that is settled."""
    return _without(call, {w.key: (p,) for w in call.documents if (p := _trust_domain_problem(state, w))})


def _trust_domain_problem(state: State, written: Written) -> ConfigError | None:
    mesh = written.resource
    if not isinstance(mesh, Mesh) or state.trust_domain in ("", mesh.trust_domain):
        return None
    return ConfigError(
        written.where,
        f"trustDomain is {mesh.trust_domain}, but the certificates of this mesh are of {state.trust_domain}",
        f"Write trustDomain: {state.trust_domain}, or start a new mesh with another state folder (--state)",
    )


def _with_targets(state: State, call: Parsed, now: datetime) -> Parsed:
    """Without the policies and routes that name a service which is not there."""
    topology = replace(state, file=_kept(state.file, call.documents, now)).topology()
    others = (written for written in call.documents if not isinstance(written.resource, Workload))
    return _without(call, {w.key: found for w in others if (found := _dangling(w, topology))})


def _dangling(written: Written, topology: Topology) -> tuple[ConfigError, ...]:
    return unresolved(_meant([written]), topology)


def _without(call: Parsed, bad: Mapping[Key, tuple[ConfigError, ...]]) -> Parsed:
    return Parsed(
        documents=tuple(written for written in call.documents if written.key not in bad),
        problems=(*call.problems, *(problem for found in bad.values() for problem in found)),
        left_out=call.left_out + len(bad),
    )


def _twice(written: Written, first: Written) -> ConfigError:
    return ConfigError(written.where, f"{written.key} is already at {first.where}", "Rename or remove one of the two")


def _not_applied(state: State, key: Key) -> NotFoundError:
    if kept := state.file.get(key):
        return NotFoundError(
            str(key),
            f"this document was not applied, it comes from {kept.written.where}",
            "Remove it there and start `proa up` again",
        )
    names = (f"{known.namespace}/{known.name}" for known in state.applied if known.kind == key.kind)
    word = f"{key.namespace}/{key.name}"
    return not_found(str(key), "applied document", word, names, "Applied documents of this kind")
