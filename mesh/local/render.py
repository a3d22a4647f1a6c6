"""What a proxy would get, from files alone."""

from typing import Any

from mesh.local.state import State
from mesh.local.supervisor import Files


def rendered(files: Files, proxy: str, state: State | None) -> dict[str, Any]:
    raise NotImplementedError
