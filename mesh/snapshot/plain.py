"""Resources as people read them: in Envoy's own field names, by kind."""

import json
from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import MessageToJson

# What is packed into a resource can be read when its type is known, and translation knows every type that it packs.
import mesh.translate.resources  # noqa: F401
from mesh.snapshot.types import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, RUNTIME, SECRET

KINDS: Final = {
    CLUSTER: "clusters",
    ENDPOINT: "endpoints",
    LISTENER: "listeners",
    ROUTE: "routes",
    RUNTIME: "runtimes",
    EXTENSION: "extensions",
    SECRET: "secrets",
}


def plain(resources: Iterable[AnyMessage]) -> dict[str, list[dict[str, Any]]]:
    """Every kind, in the order given. Keys are sorted: maps of a message have no order."""
    by_kind: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS.values()}
    for resource in resources:
        content = json.loads(MessageToJson(resource, preserving_proto_field_name=True, sort_keys=True))
        del content["@type"]
        by_kind[KINDS[resource.type_url]].append(content)
    return by_kind
