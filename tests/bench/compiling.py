"""What a policy change costs before anything is sent: only what it is about, or every view anew."""

import time
from collections.abc import Callable, Iterator

from mesh.model.documents import Documents
from mesh.model.shape import shape_of
from mesh.model.topology import topology_of
from mesh.policy.view import ProxyView, Views
from mesh.snapshot.seal import Part, part
from mesh.snapshot.views import ViewSeal
from mesh.translate.resources import resources_for
from tests.builders import a_policy, a_workload, documents

SCOPE = 10


def policy_change(services: int, number: int) -> tuple[float, float]:
    """Seconds with what was made before, and without it. Ten of the scopes name the service that the policy is for."""
    before, after = mesh_of(services, 1 + number), mesh_of(services, 2 + number)
    remembered = ViewSeal()
    kept = [remembered.part(view) for view in views(before)]
    little, everything = seconds(after, remembered.part), seconds(after, anew)
    assert len(kept) == services
    return little, everything


def seconds(mesh: Documents, made: Callable[[ProxyView], Part]) -> float:
    began = time.perf_counter()
    parts = [made(view) for view in views(mesh)]
    took = time.perf_counter() - began
    assert parts
    return took


def anew(view: ProxyView) -> Part:
    return part(resources_for(view))


def mesh_of(services: int, retries: int) -> Documents:
    """Each service calls the ten that come after it, so no two call the same ten."""
    return documents(
        *(a_workload(f"s{n}", f"port: 50051, upstreams: [{next_ten(n, services)}]") for n in range(services)),
        a_policy("p", f"{{targetRefs: [{{kind: Service, name: s0}}], retry: {{numRetries: {retries}}}}}"),
    )


def next_ten(n: int, services: int) -> str:
    return ", ".join(f"{{service: s{(n + k) % services}}}" for k in range(1, SCOPE + 1))


def views(mesh: Documents) -> Iterator[ProxyView]:
    topology = topology_of(mesh)
    revision = Views(topology, mesh)
    return (revision.of(shape_of(workload, topology)) for workload in mesh.workloads)
