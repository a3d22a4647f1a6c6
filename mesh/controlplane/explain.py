"""What `ExplainPolicy` answers."""

from datetime import timedelta
from typing import Any, Final

from mesh.api.proa.v1 import documents_pb2
from mesh.config.traffic import SPELLED
from mesh.model.duration import shown
from mesh.model.schema import Idempotency, Method
from mesh.policy.calls import Decided
from mesh.policy.explain import Explained

KINDS: Final = {
    (False, False): "unary",
    (False, True): "server streaming",
    (True, False): "client streaming",
    (True, True): "bidi streaming",
}
"""By whether the client and the server stream."""


def message(one: Explained) -> documents_pb2.ExplainedMethod:
    return documents_pb2.ExplainedMethod(
        namespace=one.target.namespace,
        service=one.target.service,
        port=one.target.port,
        path=one.path,
        kind=KINDS[one.method.client_streaming, one.method.server_streaming] if one.method else "unknown",
        idempotency=_idempotency(one.method),
        values=[_value(field, decided) for field, decided in one.values],
        remark=one.remark,
    )


def _idempotency(method: Method | None) -> str:
    level = method.idempotency if method else Idempotency.UNKNOWN
    return "IDEMPOTENCY_UNKNOWN" if level is Idempotency.UNKNOWN else level.name


def _value(field: str, decided: Decided) -> documents_pb2.ExplainedValue:
    return documents_pb2.ExplainedValue(field=SPELLED[field], value=_text(decided.value), place=decided.place)


def _text(value: Any) -> str:
    match value:
        case None:
            return "none"
        case timedelta():
            return shown(value)
        case tuple():
            return ", ".join(value)
        case bool():
            return str(value).lower()
    return str(value)
