"""Fields that GRPCRoute and HTTPRoute share, with the limits of Gateway API v1.

https://github.com/kubernetes-sigs/gateway-api/tree/main/apis/v1 (shared_types.go, httproute_types.go)
"""

import re
from collections.abc import Iterable
from itertools import combinations
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mesh.config.fields import Domain, HeaderName, Label, OneOf, PortNumber, Spec, Text, Token, twice
from mesh.config.regex import expression
from mesh.model.route import (
    GATEWAY_GROUP,
    NO_CHANGE,
    BackendRef,
    GRPCRoute,
    HeaderChange,
    HTTPRoute,
    Match,
    Mirror,
    ParentRef,
    Rule,
    ServiceRef,
    ValueMatch,
)

R = TypeVar("R", GRPCRoute, HTTPRoute)

MOST_MATCHES: Final = 128
"""In all rules of one route together."""

_VALUE: Final = re.compile(r"[!-~]+([\t ][!-~]+)*")
_HOSTNAME: Final = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_ADDRESS: Final = re.compile(r"[0-9.]+")


def _changeable(name: str) -> str:
    if name == "host":
        raise ValueError("the header Host cannot be changed here; use urlRewrite.hostname of an HTTPRoute")
    return name


def _value(most: int) -> AfterValidator:
    def check(text: str) -> str:
        if not _VALUE.fullmatch(text) or len(text) > most:
            raise ValueError(f"a value is 1 to {most} ASCII characters, at most one space between two words; change it")
        return text

    return AfterValidator(check)


def _hostname(name: str) -> str:
    if not _HOSTNAME.fullmatch(name) or _ADDRESS.fullmatch(name) or len(name) > 253:
        raise ValueError(f"{name!r} is no host name; use a-z, 0-9, - and dots, perhaps `*.` before them, no address")
    return name


def _precise(name: str) -> str:
    if name.startswith("*"):
        raise ValueError(f"{name!r} stands for many names; give one")
    return name


def _refuse(value: Any) -> Any:
    raise ValueError("Gateway API has this field, Proa does not support it; remove it")


ChangeableHeader = Annotated[HeaderName, AfterValidator(_changeable)]
HeaderText = Annotated[Text, _value(4096)]
ParameterText = Annotated[Text, _value(1024)]
Hostname = Annotated[Text, AfterValidator(_hostname)]
PreciseHostname = Annotated[Hostname, AfterValidator(_precise)]
SectionName = Domain
Unsupported = Annotated[Any, BeforeValidator(_refuse)]


def supported(supported: Iterable[str], others: Iterable[str]) -> BeforeValidator:
    """A word of `supported`; one of `others` is known to Gateway API, but not to Proa."""
    known = ", ".join(supported)

    def check(value: Any) -> Any:
        if value in others:
            raise ValueError(f"Gateway API has {value}, Proa does not support it here; use one of {known}")
        return value

    return BeforeValidator(check)


class ParentRefSpec(Spec):
    group: Text = GATEWAY_GROUP
    kind: Text = "Gateway"
    namespace: Label | None = None
    name: Label
    section_name: SectionName | None = None
    port: PortNumber | None = None

    @model_validator(mode="after")
    def _is_service(self) -> Self:
        if self.kind == "Gateway":
            raise ValueError('a Gateway as parent is not built yet; write group: "" and kind: Service')
        if self.kind != "Service":
            raise ValueError(f'kind {self.kind} is no parent that Proa knows; write group: "" and kind: Service')
        if self.group not in ("", "core"):
            raise ValueError(f'there is no Service in group {self.group}, which is the default; write group: ""')
        return self

    def parent(self, namespace: str) -> ParentRef:
        return ParentRef(self.namespace or namespace, self.name, self.port, self.section_name or "")


class ObjectRef(Spec):
    """A port of a Service that calls can go to."""

    group: Literal["", "core"] = ""
    kind: Literal["Service"] = "Service"
    namespace: Label | None = None
    name: Label
    port: PortNumber

    def service(self, namespace: str) -> ServiceRef:
        return ServiceRef(self.namespace or namespace, self.name, self.port)


class HeaderSpec(Spec):
    name: ChangeableHeader
    value: HeaderText


Headers = Annotated[tuple[HeaderSpec, ...], Field(max_length=16)]


class HeaderChangeSpec(Spec):
    set: Headers = ()
    add: Headers = ()
    remove: Annotated[tuple[ChangeableHeader, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if name := twice([*(header.name for header in (*self.set, *self.add)), *self.remove]):
            raise ValueError(f"the header {name} is named twice; say one thing about it")
        return self

    def change(self) -> HeaderChange:
        return HeaderChange(
            set=tuple((header.name, header.value) for header in self.set),
            add=tuple((header.name, header.value) for header in self.add),
            remove=self.remove,
        )


class FractionSpec(Spec):
    numerator: Annotated[int, Field(ge=0)]
    denominator: Annotated[int, Field(ge=1)] = 100

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        if self.numerator > self.denominator:
            raise ValueError("numerator is more than denominator; make it less")
        return self


class MirrorSpec(Spec):
    backend_ref: ObjectRef
    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    fraction: FractionSpec | None = None

    @model_validator(mode="after")
    def _one_share(self) -> Self:
        if self.percent is not None and self.fraction:
            raise ValueError("both percent and fraction are given; keep one")
        return self

    def mirror(self, namespace: str) -> Mirror:
        share = self.fraction or FractionSpec(numerator=100 if self.percent is None else self.percent)
        return Mirror(self.backend_ref.service(namespace), share.numerator, share.denominator)


class FilterSpec(OneOf):
    """One step of a rule."""

    request_header_modifier: HeaderChangeSpec | None = None
    response_header_modifier: HeaderChangeSpec | None = None


class RouteFilterSpec(FilterSpec):
    request_mirror: MirrorSpec | None = None


BACKEND_FILTERS: Final = ("RequestHeaderModifier", "ResponseHeaderModifier")
NOT_OF_BACKENDS: Final = ("RequestMirror", "RequestRedirect", "URLRewrite", "CORS", "ExternalAuth", "ExtensionRef")


class BackendFilterSpec(FilterSpec):
    type: Annotated[
        Literal["RequestHeaderModifier", "ResponseHeaderModifier"], supported(BACKEND_FILTERS, NOT_OF_BACKENDS)
    ]


class BackendRefSpec(ObjectRef):
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    filters: Annotated[tuple[BackendFilterSpec, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        once(self.filters)
        return self

    def backend(self, namespace: str) -> BackendRef:
        return BackendRef(self.service(namespace), self.weight, *header_changes(self.filters))


class ValueMatchSpec(Spec):
    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: Text
    value: Text

    @model_validator(mode="after")
    def _is_expression(self) -> Self:
        if self.type == "RegularExpression":
            expression(self.value)
        return self


class HeaderMatchSpec(ValueMatchSpec):
    name: HeaderName
    value: HeaderText


class ParameterMatchSpec(ValueMatchSpec):
    name: Token
    value: ParameterText


class RuleSpec(Spec):
    name: SectionName | None = None
    backend_refs: Annotated[tuple[BackendRefSpec, ...], Field(max_length=16)] = ()
    session_persistence: Unsupported = None

    def with_filters(self, namespace: str, matches: tuple[Match, ...], filters: Iterable[RouteFilterSpec]) -> Rule:
        """What both kinds have of a rule."""
        requests, responses = header_changes(filters)
        return Rule(
            matches=matches,
            backends=tuple(spec.backend(namespace) for spec in self.backend_refs),
            name=self.name or "",
            request_headers=requests,
            response_headers=responses,
            mirrors=tuple(spec.request_mirror.mirror(namespace) for spec in filters if spec.request_mirror),
        )


class RouteSpec(Spec):
    parent_refs: Annotated[tuple[ParentRefSpec, ...], Field(min_length=1, max_length=32)]
    hostnames: Annotated[tuple[Hostname, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _distinct_parents(self) -> Self:
        for one, other in combinations(self.parent_refs, 2):
            if (one.namespace, one.name) == (other.namespace, other.name) and not _apart(one, other):
                raise ValueError(f"two parentRefs select {one.name}; give each a port or sectionName of its own")
        return self

    def parents(self, namespace: str) -> tuple[ParentRef, ...]:
        """Sorted: in which order they are written means nothing."""
        return tuple(sorted((ref.parent(namespace) for ref in self.parent_refs), key=str))

    def route(self, kind: type[R], namespace: str, name: str, where: str, rules: Iterable[Rule]) -> R:
        return kind(namespace, name, where, self.parents(namespace), tuple(rules), self.hostnames)


def _apart(one: ParentRefSpec, other: ParentRefSpec) -> bool:
    """Whether they say which part of their common parent they mean, in the same way, and not the same part."""
    parts = [(ref.section_name, ref.port) for ref in (one, other)]
    said = [tuple(part is not None for part in ref) for ref in parts]
    return said[0] == said[1] and parts[0] != parts[1]


def once(filters: Iterable[FilterSpec], *but: str) -> None:
    """Raises ValueError for a type of filter that is there twice, unless it is one of `but`."""
    if kind := twice(one.type for one in filters if one.type not in but):
        raise ValueError(f"there are two filters of type {kind}; make them one")


def header_changes(filters: Iterable[FilterSpec]) -> tuple[HeaderChange, HeaderChange]:
    """What the filters change of requests, and of responses."""
    filters = tuple(filters)
    requests = [one.request_header_modifier.change() for one in filters if one.request_header_modifier]
    responses = [one.response_header_modifier.change() for one in filters if one.response_header_modifier]
    return (*requests, NO_CHANGE)[0], (*responses, NO_CHANGE)[0]


def value_matches(specs: Iterable[ValueMatchSpec]) -> tuple[ValueMatch, ...]:
    """Sorted by name. Of two that name the same header or parameter, the first one counts."""
    found: dict[str, ValueMatch] = {}
    for spec in specs:
        found.setdefault(spec.name, ValueMatch(spec.name, spec.value, spec.type == "RegularExpression"))
    return tuple(found[name] for name in sorted(found))


def rules_fit(rules: Iterable[tuple[str | None, int]]) -> None:
    """Judges the names of rules and their numbers of matches. Raises ValueError."""
    rules = tuple(rules)
    if name := twice(name for name, _ in rules if name):
        raise ValueError(f"two rules are named {name}; rename one")
    if (total := sum(count for _, count in rules)) > MOST_MATCHES:
        raise ValueError(f"the rules have {total} matches; split them over routes of at most {MOST_MATCHES}")
