"""Documents from text: each one valid, or problems that say where they are and what to do."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError

from mesh.config.fields import Domain, Label, Spec, Text
from mesh.config.kinds import API_VERSIONS, KINDS, NOT_BUILT, AnySpec, known_kinds
from mesh.config.nearest import did_you_mean
from mesh.config.problems import follows, in_two, problem_of
from mesh.config.yaml_text import Source, sources
from mesh.errors import ConfigError
from mesh.model.documents import GROUP_VERSION, Key, Resource, key_of
from mesh.model.names import DEFAULT_NAMESPACE

S = TypeVar("S", bound=AnySpec)
V = TypeVar("V", bound=str)


class Metadata(Spec):
    name: Domain
    namespace: Label = DEFAULT_NAMESPACE
    labels: Mapping[Text, Text] = Field(default_factory=dict)
    annotations: Mapping[Text, Text] = Field(default_factory=dict)


class Envelope(Spec, Generic[S, V]):
    """The shape of every document. `status` is what `proa get` shows besides; it says nothing when applied."""

    api_version: V
    kind: Text
    metadata: Metadata
    spec: Annotated[S, BeforeValidator(lambda spec: {} if spec is None else spec)]
    status: Any = None


ENVELOPES: Final[dict[str, type[Envelope[Any, Any]]]] = {
    kind: Envelope[spec, Literal[API_VERSIONS.get(kind, (GROUP_VERSION,))]]  # type: ignore[misc, valid-type]
    for kind, spec in KINDS.items()
}


@dataclass(frozen=True, slots=True)
class Written:
    """A document as it was written, and what it means. `json` is complete: relative folders are made absolute."""

    resource: Resource
    key: Key
    api_version: str
    json: str
    where: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """`left_out` counts the documents that have problems; one document may have several."""

    documents: tuple[Written, ...]
    problems: tuple[ConfigError, ...]
    left_out: int = 0


def parse(text: str, path: str, folder: str) -> Parsed:
    """All documents of one file. A bad one is left out and has its problems listed, all of them at once.

    `path` is how the user named the file, for messages; relative folders in it refer to `folder`, which is absolute.
    """
    read = [tuple(_read(source, folder)) for source in sources(text, path)]
    found = [one for ones in read for one in ones]
    documents = tuple(one for one in found if isinstance(one, Written))
    return Parsed(
        documents=documents,
        problems=tuple(one for one in found if isinstance(one, ConfigError)),
        left_out=len(read) - len(documents),
    )


def from_json(text: str, where: str, folder: str = "/") -> Resource:
    """What a document means that was accepted before and kept as `Written.json`. Raises ConfigError."""
    path, _, line = where.rpartition(":")
    for found in _read(Source(json.loads(text), path, int(line)), folder):
        if isinstance(found, ConfigError):
            raise found
        return found.resource
    raise AssertionError("a document is something or has a problem")  # pragma: no cover


def _read(source: Source | ConfigError, folder: str) -> Iterator[Written | ConfigError]:
    """One document: itself, or its problems."""
    problem = source if isinstance(source, ConfigError) else _kind_problem(source)
    if problem or isinstance(source, ConfigError):
        yield problem or source  # type: ignore[misc]
        return
    envelope = ENVELOPES[source.value["kind"]]
    try:
        document = envelope.model_validate(source.value)
    except ValidationError as error:
        yield from (problem_of(detail, source, envelope) for detail in error.errors() if not follows(detail))
        return
    metadata = document.metadata
    try:
        resource = document.spec.resource(metadata.namespace, metadata.name, source.where(), folder)
    except ValueError as error:
        yield ConfigError(source.where(("metadata",)), *in_two(str(error)))
        return
    yield Written(resource, key_of(resource), document.api_version, _complete(source.value, resource), source.where())


def _kind_problem(source: Source) -> ConfigError | None:
    """Why the document cannot even be looked at."""
    if not isinstance(source.value, dict):
        return ConfigError(source.where(), "this is no document", "Write apiVersion, kind, metadata and spec")
    kind = source.value.get("kind")
    known = f"This version knows {known_kinds()}"
    where = source.where(("kind",))
    if not isinstance(kind, str):
        return ConfigError(where, "the document has no kind", f"Write `kind:`. {known}")
    if kind in KINDS:
        return None
    if kind in NOT_BUILT:
        return ConfigError(where, f"kind {kind} is not built yet", known)
    return ConfigError(where, f"there is no kind {kind}", did_you_mean(kind, KINDS, known))


def _complete(value: dict[str, Any], resource: Resource) -> str:
    """The document with its namespace and with absolute paths: readable from anywhere."""
    metadata = {**value["metadata"], "namespace": resource.namespace}
    spec = dict(value["spec"] or {})
    if folder := getattr(resource, "working_directory", None):
        spec["workingDirectory"] = folder
    if descriptors := getattr(resource, "descriptor_set", None):
        spec["descriptorSet"] = descriptors
    said = {key: part for key, part in value.items() if key != "status"}
    return json.dumps({**said, "metadata": metadata, "spec": spec}, ensure_ascii=False)
