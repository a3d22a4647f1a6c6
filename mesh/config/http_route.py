"""Kind HTTPRoute of Gateway API v1 as users write it.

https://github.com/kubernetes-sigs/gateway-api/blob/main/apis/v1/httproute_types.go
"""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mesh.config.fields import Duration, OneOf, PortNumber, Spec, Text
from mesh.config.regex import expression
from mesh.config.route_fields import (
    BACKEND_FILTERS,
    HeaderMatchSpec,
    ParameterMatchSpec,
    PreciseHostname,
    RouteFilterSpec,
    RouteSpec,
    RuleSpec,
    once,
    rules_fit,
    supported,
    value_matches,
)
from mesh.model.route import HttpMatch, HTTPRoute, PathChange, PathMatch, PathType, Redirect, Rewrite, RouteRetry, Rule

_PATH: Final = re.compile(r"/(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*")
_MISLEADING: Final = re.compile(r"//|/\.\.?(/|$)|%2[fF]")


def _path(value: str) -> str:
    """A path that means the same before and after it is normalised. Raises ValueError."""
    if not _PATH.fullmatch(value):
        raise ValueError(f"{value!r} is no path; start it with /, and write what a URL may not hold as %20")
    if found := _MISLEADING.search(value):
        raise ValueError(f"{value!r} has {found[0]} in it, which servers read differently; remove that")
    return value


def _path_or_none(value: str) -> str:
    return _path(value) if value else value


class PathMatchSpec(Spec):
    type: PathType = PathType.PREFIX
    value: Annotated[Text, Field(max_length=1024)] = "/"

    @model_validator(mode="after")
    def _is_path(self) -> Self:
        if self.type is PathType.REGEX:
            expression(self.value)
        else:
            _path(self.value)
        return self

    def match(self) -> PathMatch:
        is_prefix = self.type is PathType.PREFIX
        return PathMatch(self.type, (self.value.rstrip("/") or "/") if is_prefix else self.value)


class MatchSpec(Spec):
    path: PathMatchSpec = PathMatchSpec()
    headers: Annotated[tuple[HeaderMatchSpec, ...], Field(max_length=16)] = ()
    query_params: Annotated[tuple[ParameterMatchSpec, ...], Field(max_length=16)] = ()
    method: Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"] | None = None

    def match(self) -> HttpMatch:
        query = value_matches(self.query_params)
        return HttpMatch(self.path.match(), self.method or "", value_matches(self.headers), query)


class PathChangeSpec(OneOf):
    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: Annotated[Text, Field(max_length=1024), AfterValidator(_path)] | None = None
    replace_prefix_match: Annotated[Text, Field(max_length=1024), AfterValidator(_path_or_none)] | None = None

    def change(self) -> PathChange:
        return PathChange(self.replace_full_path, self.replace_prefix_match)


class RedirectSpec(Spec):
    scheme: Literal["http", "https"] | None = None
    hostname: PreciseHostname | None = None
    path: PathChangeSpec | None = None
    port: PortNumber | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302

    def redirect(self) -> Redirect:
        path = self.path.change() if self.path else PathChange()
        return Redirect(self.scheme or "", self.hostname or "", self.port, path, self.status_code)


class RewriteSpec(Spec):
    hostname: PreciseHostname | None = None
    path: PathChangeSpec | None = None

    def rewrite(self) -> Rewrite:
        return Rewrite(self.hostname or "", self.path.change() if self.path else PathChange())


class HttpFilterSpec(RouteFilterSpec):
    type: Annotated[
        Literal["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite"],
        supported(
            (*BACKEND_FILTERS, "RequestMirror", "RequestRedirect", "URLRewrite"),
            ("CORS", "ExternalAuth", "ExtensionRef"),
        ),
    ]
    request_redirect: RedirectSpec | None = None
    url_rewrite: RewriteSpec | None = None


class TimeoutsSpec(Spec):
    request: Duration | None = None
    backend_request: Duration | None = None

    @model_validator(mode="after")
    def _one_within_the_other(self) -> Self:
        if self.request and self.backend_request and self.backend_request > self.request:
            raise ValueError("backendRequest is longer than request; make it shorter")
        return self


class RetrySpec(Spec):
    codes: tuple[Annotated[int, Field(ge=400, le=599)], ...] = ()
    attempts: Annotated[int, Field(ge=0, le=10)] | None = None
    backoff: Duration | None = None

    def retry(self) -> RouteRetry:
        backoff = max(self.backoff, timedelta(milliseconds=1)) if self.backoff is not None else None
        return RouteRetry(tuple(sorted(set(self.codes))), self.attempts, backoff)


class HttpRuleSpec(RuleSpec):
    matches: Annotated[tuple[MatchSpec, ...], Field(max_length=64)] = ()
    filters: Annotated[tuple[HttpFilterSpec, ...], Field(max_length=16)] = ()
    timeouts: TimeoutsSpec = TimeoutsSpec()
    retry: RetrySpec | None = None

    @model_validator(mode="after")
    def _filters_fit(self) -> Self:
        once(self.filters, "RequestMirror")
        redirects = [spec.request_redirect for spec in self.filters if spec.request_redirect]
        rewrites = [spec.url_rewrite for spec in self.filters if spec.url_rewrite]
        if redirects and rewrites:
            raise ValueError("RequestRedirect and URLRewrite exclude each other; remove one")
        if redirects and self.backend_refs:
            raise ValueError("a redirected request goes to no backend; remove backendRefs or RequestRedirect")
        for change in (*(spec.path for spec in redirects), *(spec.path for spec in rewrites)):
            if change and change.replace_prefix_match is not None and not self._one_prefix():
                raise ValueError("replacePrefixMatch needs exactly one match, of type PathPrefix; split the rule")
        return self

    def _one_prefix(self) -> bool:
        """Without matches there is the default one, which is a prefix."""
        return len(self.matches) <= 1 and all(match.path.type is PathType.PREFIX for match in self.matches)

    def rule(self, namespace: str) -> Rule:
        redirects = [spec.request_redirect.redirect() for spec in self.filters if spec.request_redirect]
        rewrites = [spec.url_rewrite.rewrite() for spec in self.filters if spec.url_rewrite]
        matches = tuple(spec.match() for spec in self.matches) or (HttpMatch(),)
        return replace(
            self.with_filters(namespace, matches, self.filters),
            redirect=next(iter(redirects), None),
            rewrite=next(iter(rewrites), None),
            request_timeout=self.timeouts.request,
            backend_timeout=self.timeouts.backend_request,
            retry=self.retry.retry() if self.retry else None,
        )


class HTTPRouteSpec(RouteSpec):
    rules: Annotated[tuple[HttpRuleSpec, ...], Field(min_length=1, max_length=16)] = (HttpRuleSpec(),)

    @model_validator(mode="after")
    def _rules_fit(self) -> Self:
        rules_fit((rule.name, max(1, len(rule.matches))) for rule in self.rules)
        return self

    def resource(self, namespace: str, name: str, where: str, folder: str) -> HTTPRoute:
        return self.route(HTTPRoute, namespace, name, where, (rule.rule(namespace) for rule in self.rules))
