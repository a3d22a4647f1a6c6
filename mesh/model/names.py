"""Names that two places must agree on, each minted here, next to its inverse."""

from dataclasses import dataclass

DEFAULT_NAMESPACE = "default"
CONTROL_PLANE_NAMESPACE = "proa-system"
CONTROL_PLANE_ACCOUNT = "control-plane"
CONTROL_PLANE_HOST = "control-plane.proa"
"""The host name in the control plane's certificate, which proxies send as SNI."""

OUTBOUND = "outbound"
"""Listener and route configuration of the port that routes by `:authority`."""

RUNTIME_LAYER = "runtime"
"""The RTDS layer of every proxy."""

XDS_CLUSTER = "xds"
TELEMETRY_CLUSTER = "telemetry"
LOCAL_CLUSTER = "local"
"""Clusters of the bootstrap: the control plane, where telemetry goes, and the proxy's own service."""

_CLIENT_PREFIX = "sa:"

NOBODY = "nobody"
"""A cluster that is never there: where the share of a backend goes that cannot be called."""

LEAF_SECRET = "id"
ROOTS_SECRET = "roots"
"""Names of the two secrets that the agent keeps in files beside Envoy."""

CLIENT_CERTIFICATES = "proa"
"""The certificate provider in the bootstrap of a gRPC client without a sidecar."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """What a caller dials: one port of one service, all versions or one."""

    namespace: str
    service: str
    port: int
    version: str = ""

    @property
    def cluster(self) -> str:
        return "/".join([self.namespace, self.service, str(self.port), *filter(None, [self.version])])

    @classmethod
    def from_cluster(cls, name: str) -> "Target":
        namespace, service, port, *version = name.split("/")
        return cls(namespace, service, int(port), *version)


@dataclass(frozen=True, slots=True, order=True)
class InstanceId:
    """One running instance of a workload. Its node id is what its Envoy says to the control plane."""

    namespace: str
    workload: str
    instance: str

    @property
    def node_id(self) -> str:
        return f"{self.namespace}/{self.workload}/{self.instance}"

    @classmethod
    def from_node_id(cls, node_id: str) -> "InstanceId":
        """Raises ValueError when `node_id` does not have three parts."""
        namespace, workload, instance = node_id.split("/")
        return cls(namespace, workload, instance)

    @classmethod
    def of_client(cls, namespace: str, service_account: str, instance: str) -> "InstanceId":
        """A gRPC client without a sidecar. No workload has a name with a colon, so it is no instance of any."""
        return cls(namespace, f"{_CLIENT_PREFIX}{service_account}", instance)

    @property
    def service_account(self) -> str | None:
        """That of a gRPC client without a sidecar, None for an instance of a workload."""
        return self.workload.removeprefix(_CLIENT_PREFIX) if self.workload.startswith(_CLIENT_PREFIX) else None


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """Who a workload is: a SPIFFE id, `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`."""

    trust_domain: str
    namespace: str
    service_account: str

    @property
    def uri(self) -> str:
        return f"{trust_domain_prefix(self.trust_domain)}ns/{self.namespace}/sa/{self.service_account}"

    @classmethod
    def from_uri(cls, uri: str) -> "Identity":
        """Raises ValueError for a URI of another shape."""
        match uri.removeprefix("spiffe://").split("/"):
            case [trust_domain, "ns", namespace, "sa", account] if uri.startswith("spiffe://"):
                return cls(trust_domain, namespace, account)
        raise ValueError(f"{uri} is not spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>")


@dataclass(frozen=True, slots=True, order=True)
class Person:
    """Somebody who uses the control plane by a token with a role. No workload lets anyone in by this."""

    trust_domain: str
    role: str
    token: str

    @property
    def uri(self) -> str:
        return f"{trust_domain_prefix(self.trust_domain)}role/{self.role}/{self.token}"

    @classmethod
    def from_uri(cls, uri: str) -> "Person":
        """Raises ValueError for a URI of another shape."""
        match uri.removeprefix("spiffe://").split("/"):
            case [trust_domain, "role", role, token] if uri.startswith("spiffe://"):
                return cls(trust_domain, role, token)
        raise ValueError(f"{uri} is not spiffe://<trust-domain>/role/<role>/<token>")


def nobody_uri(trust_domain: str) -> str:
    """What no certificate says: whoever must prove this is refused."""
    return f"{trust_domain_prefix(trust_domain)}nobody"


def workloads_prefix(trust_domain: str) -> str:
    """What every SPIFFE id of a workload of the trust domain starts with."""
    return f"{trust_domain_prefix(trust_domain)}ns/"


def trust_domain_prefix(trust_domain: str) -> str:
    """What every SPIFFE id of the trust domain starts with."""
    return f"spiffe://{trust_domain}/"


def control_plane_identity(trust_domain: str) -> Identity:
    return Identity(trust_domain, CONTROL_PLANE_NAMESPACE, CONTROL_PLANE_ACCOUNT)


def inbound_name(port: int) -> str:
    """Listener and route configuration of one port of the workload itself."""
    return f"inbound/{port}"


def upstream_listener_name(key: str) -> str:
    """Listener of one declared upstream. Two of them may lead to one target."""
    return f"upstream/{key}"


def upstream_routes_name(target: Target) -> str:
    """Route configuration of a target, for the listeners of its upstreams."""
    return f"upstream/{target.cluster}"


def upstream_routes_target(name: str) -> Target:
    """The inverse."""
    return Target.from_cluster(name.removeprefix("upstream/"))


def app_cluster(port: int) -> str:
    """The cluster through which a sidecar reaches its own service."""
    return f"app/{port}"


def host_names(service: str, namespace: str, caller_namespace: str) -> tuple[str, ...]:
    """The names under which a caller in `caller_namespace` may call the service, without ports."""
    full = f"{service}.{namespace}"
    short = (service,) if namespace == caller_namespace else ()
    return (*short, full, f"{full}.svc", f"{full}.svc.cluster.local")
