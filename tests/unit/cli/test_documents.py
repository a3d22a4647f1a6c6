"""Documents, as commands handle them."""

from typing import Any

import pytest

from mesh.api.proa.v1 import documents_pb2
from mesh.cli.documents import _wait
from mesh.errors import MeshError


class Stub:
    """Lists one document, with the next of these conditions each time."""

    def __init__(self, *reasons: str) -> None:
        self._reasons = iter(reasons)

    def ListDocuments(self, request: Any, timeout: float) -> documents_pb2.ListDocumentsResponse:
        reason = next(self._reasons)
        condition = documents_pb2.Condition(
            type="Programmed", status=reason == "Programmed", reason=reason, message=reason
        )
        key = documents_pb2.DocumentKey(kind="GRPCRoute", namespace="shop", name="split")
        return documents_pb2.ListDocumentsResponse(documents=[documents_pb2.Document(key=key, conditions=[condition])])


def test_what_is_on_its_way_or_held_back_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    _wait(Stub("Pending", "Pending", "Held", "Programmed"), {"GRPCRoute/shop/split"}, patience=60)

    *said, done = capsys.readouterr().err.splitlines()
    assert said == ["GRPCRoute/shop/split: Pending", "GRPCRoute/shop/split: Held"]
    assert done.startswith("every proxy concerned has it after ")


@pytest.mark.parametrize("reason", ["Refused", "Invalid"])
def test_a_refusal_is_not_waited_for(reason: str) -> None:
    with pytest.raises(MeshError, match=f"not everywhere: GRPCRoute/shop/split: {reason}. Correct it"):
        _wait(Stub("Pending", reason), {"GRPCRoute/shop/split"}, patience=60)


def test_other_documents_are_not_waited_for() -> None:
    _wait(Stub("Refused"), {"GRPCRoute/shop/other"}, patience=60)
