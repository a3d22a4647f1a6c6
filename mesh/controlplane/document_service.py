"""`DocumentService`: what users write."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

from mesh.api.proa.v1 import documents_pb2, documents_pb2_grpc
from mesh.config import Parsed, kind_named, parse
from mesh.controlplane import explain, wire
from mesh.controlplane.conditions import Condition, ParentStatus, Standing, conditions_of, parents_of
from mesh.controlplane.standing import Standings
from mesh.model.documents import Key
from mesh.policy.check import conflicts
from mesh.policy.explain import explained
from mesh.registry.documents import Action, Change, Outcome, together
from mesh.registry.registry import Registry
from mesh.registry.state import Kept

ACTIONS: Final = {
    Action.CREATED: documents_pb2.CHANGE_ACTION_CREATED,
    Action.CONFIGURED: documents_pb2.CHANGE_ACTION_CONFIGURED,
    Action.UNCHANGED: documents_pb2.CHANGE_ACTION_UNCHANGED,
    Action.DELETED: documents_pb2.CHANGE_ACTION_DELETED,
}

log = logging.getLogger(__name__)


class DocumentService(documents_pb2_grpc.DocumentServiceServicer):
    def __init__(self, registry: Registry, standings: Standings) -> None:
        self._registry = registry
        self._standings = standings

    async def ApplyDocuments(
        self, request: documents_pb2.ApplyDocumentsRequest, context: Any
    ) -> documents_pb2.ApplyDocumentsResponse:
        outcome = await self._registry.apply(_parsed(request.files), allow_unresolved=request.allow_unresolved)
        _log("documents_applied", outcome)
        return documents_pb2.ApplyDocumentsResponse(
            applied=not outcome.problems,
            changes=_changes(outcome),
            problems=_problems(outcome),
            revision=outcome.state.revision,
        )

    async def ReplaceFileSet(
        self, request: documents_pb2.ReplaceFileSetRequest, context: Any
    ) -> documents_pb2.ReplaceFileSetResponse:
        # This is how `proa up` starts: what an earlier one ran has ended with it.
        await self._registry.forget_detached()
        outcome = await self._registry.replace_file_set(_parsed(request.files))
        _log("file_set_replaced", outcome)
        return documents_pb2.ReplaceFileSetResponse(
            changes=_changes(outcome),
            problems=_problems(outcome),
            left_out=outcome.left_out,
            revision=outcome.state.revision,
        )

    async def ListDocuments(
        self, request: documents_pb2.ListDocumentsRequest, context: Any
    ) -> documents_pb2.ListDocumentsResponse:
        asked = Key(kind_named(request.kind) if request.kind else "", request.namespace, request.name)
        standings = await self._standings.now()
        return documents_pb2.ListDocumentsResponse(
            documents=_listed(self._registry, asked, standings), revision=self._registry.state.revision
        )

    async def ExplainPolicy(
        self, request: documents_pb2.ExplainPolicyRequest, context: Any
    ) -> documents_pb2.ExplainPolicyResponse:
        topology, documents = self._registry.topology, self._registry.documents
        found = explained(request.service, request.method, request.namespace, topology, documents)
        return documents_pb2.ExplainPolicyResponse(methods=map(explain.message, found))

    async def DeleteDocuments(
        self, request: documents_pb2.DeleteDocumentsRequest, context: Any
    ) -> documents_pb2.DeleteDocumentsResponse:
        outcome = await self._registry.delete([wire.key(key) for key in request.keys])
        _log("documents_deleted", outcome)
        return documents_pb2.DeleteDocumentsResponse(changes=_changes(outcome), revision=outcome.state.revision)


def _parsed(files: Iterable[documents_pb2.SourceFile]) -> Parsed:
    return together(parse(file.text, file.path, file.folder) for file in files)


def _log(event: str, outcome: Outcome) -> None:
    changed = [f"{change.key}:{change.action}" for change in outcome.changes if change.action is not Action.UNCHANGED]
    problems = len(outcome.problems)
    log.info("%s revision=%d changed=%s problems=%d", event, outcome.state.revision, ",".join(changed), problems)


def _changes(outcome: Outcome) -> list[documents_pb2.DocumentChange]:
    return [_change(change) for change in outcome.changes]


def _change(change: Change) -> documents_pb2.DocumentChange:
    return documents_pb2.DocumentChange(
        key=wire.key_message(change.key), action=ACTIONS[change.action], shadows_file=change.shadows_file
    )


def _problems(outcome: Outcome) -> list[documents_pb2.Problem]:
    return [
        *(wire.problem_message(error) for error in outcome.problems),
        *(wire.problem_message(error, warning=True) for error in outcome.warnings),
    ]


def _listed(registry: Registry, asked: Key, standings: Sequence[Standing]) -> list[documents_pb2.Document]:
    given_way = conflicts(registry.documents, registry.topology)
    grants = registry.documents.grants
    return [
        _document(
            registry,
            kept,
            conditions_of(kept.resource, registry.topology, grants, given_way, standings),
            parents_of(kept.resource, registry.topology, grants, given_way),
        )
        for key, kept in registry.state.in_force().items()
        if asked.kind in ("", key.kind) and asked.namespace in ("", key.namespace) and asked.name in ("", key.name)
    ]


def _document(
    registry: Registry, kept: Kept, conditions: Iterable[Condition], parents: Iterable[ParentStatus]
) -> documents_pb2.Document:
    written, applied = kept.written, kept.written.key in registry.state.applied
    return documents_pb2.Document(
        key=wire.key_message(written.key),
        api_version=written.api_version,
        json=written.json,
        where=written.where,
        set=documents_pb2.DOCUMENT_SET_APPLIED if applied else documents_pb2.DOCUMENT_SET_FILE,
        shadows_file=applied and written.key in registry.state.file,
        conditions=map(_condition, conditions),
        parents=[
            documents_pb2.ParentStatus(
                namespace=one.parent.namespace,
                service=one.parent.service,
                port=one.parent.port or 0,
                section_name=one.parent.section,
                conditions=map(_condition, one.conditions),
            )
            for one in parents
        ],
    )


def _condition(one: Condition) -> documents_pb2.Condition:
    return documents_pb2.Condition(type=one.type, status=one.status, reason=one.reason, message=one.message)
