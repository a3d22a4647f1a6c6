"""Kind ReferenceGrant of Gateway API v1 and v1beta1 as users write it."""

from typing import Annotated

from pydantic import Field

from mesh.config.fields import Domain, Label, Spec, Text
from mesh.model.route import GrantFrom, GrantTo, ReferenceGrant


class FromSpec(Spec):
    group: Text
    kind: Text
    namespace: Label


class ToSpec(Spec):
    group: Text
    kind: Text
    name: Domain | None = None

    def grant(self) -> GrantTo:
        """The group of Service may be called by its name, as in other references."""
        return GrantTo("" if self.group == "core" else self.group, self.kind, self.name or "")


class ReferenceGrantSpec(Spec):
    from_: Annotated[tuple[FromSpec, ...], Field(alias="from", min_length=1, max_length=16)]
    to: Annotated[tuple[ToSpec, ...], Field(min_length=1, max_length=16)]

    def resource(self, namespace: str, name: str, where: str, folder: str) -> ReferenceGrant:
        return ReferenceGrant(
            namespace=namespace,
            name=name,
            where=where,
            sources=tuple(sorted(GrantFrom(one.group, one.kind, one.namespace) for one in self.from_)),
            targets=tuple(sorted(one.grant() for one in self.to)),
        )
