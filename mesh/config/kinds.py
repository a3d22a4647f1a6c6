"""The kinds of documents: those that are built, those that are not yet, and how people spell them."""

from typing import Final

from mesh.config.grpc_route import GRPCRouteSpec
from mesh.config.http_route import HTTPRouteSpec
from mesh.config.mesh import MeshSpec
from mesh.config.nearest import did_you_mean
from mesh.config.reference_grant import ReferenceGrantSpec
from mesh.config.traffic import BackendTrafficPolicySpec
from mesh.config.workload import WorkloadSpec
from mesh.errors import UsageError
from mesh.model.route import GATEWAY_GROUP

AnySpec = MeshSpec | WorkloadSpec | GRPCRouteSpec | HTTPRouteSpec | ReferenceGrantSpec | BackendTrafficPolicySpec

KINDS: Final[dict[str, type[AnySpec]]] = {
    "Mesh": MeshSpec,
    "Workload": WorkloadSpec,
    "GRPCRoute": GRPCRouteSpec,
    "HTTPRoute": HTTPRouteSpec,
    "ReferenceGrant": ReferenceGrantSpec,
    "BackendTrafficPolicy": BackendTrafficPolicySpec,
}

API_VERSIONS: Final[dict[str, tuple[str, ...]]] = {
    "GRPCRoute": (f"{GATEWAY_GROUP}/v1",),
    "HTTPRoute": (f"{GATEWAY_GROUP}/v1",),
    "ReferenceGrant": (f"{GATEWAY_GROUP}/v1", f"{GATEWAY_GROUP}/v1beta1"),
}
"""Of the kinds that are not Proa's own."""

NOT_BUILT: Final = (
    "Service",
    "Secret",
    "ExternalService",
    "Gateway",
    "AuthorizationPolicy",
    "PeerAuthentication",
    "RequestAuthentication",
    "Rollout",
)


def kind_named(word: str) -> str:
    """The kind that somebody means who types `word`: any case, singular or plural. Raises UsageError."""
    spellings = {spelling: kind for kind in KINDS for spelling in (kind.lower(), _plural(kind.lower()))}
    if kind := spellings.get(word.lower()):
        return kind
    for kind in NOT_BUILT:
        if word.lower() in (kind.lower(), _plural(kind.lower())):
            raise UsageError(word, f"kind {kind} is not built yet", f"This version knows {known_kinds()}")
    raise UsageError(word, "there is no such kind", did_you_mean(word, KINDS, f"This version knows {known_kinds()}"))


def known_kinds() -> str:
    return ", ".join(KINDS)


def _plural(word: str) -> str:
    if word.endswith("y") and not word.endswith("ay"):
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "sh")) else f"{word}s"
