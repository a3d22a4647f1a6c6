"""Values with defaults that are valid, so that a test shows only what it is about."""

from mesh.config import parse
from mesh.model.address import Address
from mesh.model.documents import Documents
from mesh.model.names import Identity, InstanceId
from mesh.model.shape import Instance, InstancePort, InstanceUpstream, shape_of
from mesh.model.topology import NO_SCHEMAS, Schemas, topology_of
from mesh.model.workload import Workload
from mesh.policy.view import ProxyView, view_for

API_VERSION = "proa.mesh/v1alpha1"
GATEWAY_API = "gateway.networking.k8s.io/v1"


def a_document(kind: str, name: str, spec: str = "{}", namespace: str = "shop") -> str:
    """One YAML document; `spec` in flow style."""
    metadata = f"{{name: {name}, namespace: {namespace}}}"
    api_version = GATEWAY_API if kind in ("GRPCRoute", "HTTPRoute", "ReferenceGrant") else API_VERSION
    return f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n"


def a_workload(name: str, spec: str = "port: 50051", namespace: str = "shop") -> str:
    """One YAML document; `spec` are the fields beside `command`, in flow style."""
    return a_document("Workload", name, f"{{command: [serve], {spec}}}", namespace)


def a_policy(name: str, spec: str, namespace: str = "shop") -> str:
    return a_document("BackendTrafficPolicy", name, spec, namespace)


def a_grpc_route(name: str, rules: str, service: str = "orders", namespace: str = "shop") -> str:
    """A route of one Service; `rules` is the inside of their list, in flow style."""
    parent = f'{{group: "", kind: Service, name: {service}}}'
    return a_document("GRPCRoute", name, f"{{parentRefs: [{parent}], rules: [{rules}]}}", namespace)


def an_http_route(name: str, rules: str, service: str = "web", namespace: str = "shop") -> str:
    parent = f'{{group: "", kind: Service, name: {service}}}'
    return a_document("HTTPRoute", name, f"{{parentRefs: [{parent}], rules: [{rules}]}}", namespace)


def documents(*texts: str) -> Documents:
    """The documents of one file. They must be good."""
    parsed = parse("---\n".join(texts), "mesh.yaml", "/shop")
    assert not parsed.problems, parsed.problems
    return Documents.of(written.resource for written in parsed.documents)


def workload(mesh: Documents, name: str) -> Workload:
    return next(found for found in mesh.workloads if found.name == name)


def a_view(mesh: Documents, name: str, schemas: Schemas = NO_SCHEMAS) -> ProxyView:
    """The view of the sidecars of a workload."""
    topology = topology_of(mesh, schemas)
    return view_for(shape_of(workload(mesh, name), topology), topology, mesh)


def an_instance(mesh: Documents, name: str) -> Instance:
    """The first instance of a workload, at ports that are counted up from 20000."""
    found, topology = workload(mesh, name), topology_of(mesh)
    free = (Address("127.0.0.1", port) for port in range(20000, 30000))
    return Instance(
        id=InstanceId(found.namespace, name, f"{name}-0"),
        identity=Identity(mesh.mesh.trust_domain, found.namespace, found.service_account),
        service=found.service,
        version=found.version,
        locality=found.locality,
        ports=tuple(InstancePort(port.number, port.protocol, next(free), next(free)) for port in found.ports),
        upstreams=tuple(
            InstanceUpstream(up.key, target, port.protocol, next(free))
            for up in found.upstreams
            if (target := topology.target(up.namespace, up.service, up.port))
            and (service := topology.service(up.namespace, up.service))
            and (port := service.port(target.port))
        ),
        outbound=next(free),
        admin="admin.sock",
    )
