"""Kind GRPCRoute of Gateway API v1 as users write it.

https://github.com/kubernetes-sigs/gateway-api/blob/main/apis/v1/grpcroute_types.go
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mesh.config.fields import METHOD, SERVICE, Spec, Text
from mesh.config.regex import expression
from mesh.config.route_fields import (
    BACKEND_FILTERS,
    HeaderMatchSpec,
    RouteFilterSpec,
    RouteSpec,
    RuleSpec,
    once,
    rules_fit,
    supported,
    value_matches,
)
from mesh.model.route import GrpcMatch, GRPCRoute, MethodMatch, Rule


class MethodMatchSpec(Spec):
    type: Literal["Exact", "RegularExpression"] = "Exact"
    service: Annotated[Text, Field(max_length=1024)] = ""
    method: Annotated[Text, Field(max_length=1024)] = ""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.service or self.method):
            raise ValueError("neither service nor method is given; write one, or leave `method` out")
        if self.type == "RegularExpression":
            for part in filter(None, (self.service, self.method)):
                expression(part)
            expression(self.match().pattern)
            return self
        # Gateway API allows a dot before the service, which no caller sends.
        if self.service and not SERVICE.fullmatch(self.service):
            raise ValueError(f"{self.service!r} is no gRPC service; write package.Service")
        if self.method and not METHOD.fullmatch(self.method):
            raise ValueError(f"{self.method!r} is no gRPC method; write its name only")
        return self

    def match(self) -> MethodMatch:
        return MethodMatch(self.service, self.method, self.type == "RegularExpression")


class MatchSpec(Spec):
    method: MethodMatchSpec | None = None
    headers: Annotated[tuple[HeaderMatchSpec, ...], Field(max_length=16)] = ()

    def match(self) -> GrpcMatch:
        method = self.method.match() if self.method else MethodMatch()
        return GrpcMatch(method, value_matches(self.headers))


class GrpcFilterSpec(RouteFilterSpec):
    type: Annotated[
        Literal["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror"],
        supported((*BACKEND_FILTERS, "RequestMirror"), ("ExtensionRef",)),
    ]


class GrpcRuleSpec(RuleSpec):
    matches: Annotated[tuple[MatchSpec, ...], Field(max_length=64)] = ()
    filters: Annotated[tuple[GrpcFilterSpec, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        once(self.filters, "RequestMirror")
        return self

    def rule(self, namespace: str) -> Rule:
        return self.with_filters(
            namespace, tuple(spec.match() for spec in self.matches) or (GrpcMatch(),), self.filters
        )


class GRPCRouteSpec(RouteSpec):
    rules: Annotated[tuple[GrpcRuleSpec, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _rules_fit(self) -> Self:
        rules_fit((rule.name, len(rule.matches)) for rule in self.rules)
        return self

    def resource(self, namespace: str, name: str, where: str, folder: str) -> GRPCRoute:
        return self.route(GRPCRoute, namespace, name, where, (rule.rule(namespace) for rule in self.rules))
