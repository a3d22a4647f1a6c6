"""Kind Mesh as users write it."""

from datetime import timedelta
from typing import Self

from pydantic import model_validator

from mesh.config.fields import Domain, PositiveDuration, Spec
from mesh.config.traffic import CallsSpec
from mesh.model.documents import Mesh

DEFAULT = Mesh()
SHORTEST_LIFETIME = timedelta(seconds=60)


class Certificates(Spec):
    leaf_lifetime: PositiveDuration = DEFAULT.leaf_lifetime

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if self.leaf_lifetime < SHORTEST_LIFETIME:
            raise ValueError("leafLifetime is too short to renew certificates in time; make it 60s or more")
        return self


class MeshSpec(Spec):
    trust_domain: Domain = DEFAULT.trust_domain
    certificates: Certificates = Certificates()
    defaults: CallsSpec = CallsSpec()

    def resource(self, namespace: str, name: str, where: str, folder: str) -> Mesh:
        if name != DEFAULT.name:
            raise ValueError(f"the mesh is named default, not {name!r}; change the name")
        if namespace != DEFAULT.namespace:
            raise ValueError("the mesh is in no namespace; leave it out")
        timeouts, retry = self.defaults.said()
        return Mesh(
            where=where,
            trust_domain=self.trust_domain,
            leaf_lifetime=self.certificates.leaf_lifetime,
            timeouts=timeouts,
            retry=retry,
        )
