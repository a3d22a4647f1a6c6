"""How the supervisor keeps the control plane."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mesh.local import supervisor
from mesh.local.child import Child
from mesh.local.state import State


class Nobody:
    """An audience that is told nothing."""

    def note(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def ready(self, *_: Any) -> None: ...


async def test_the_control_plane_is_started_again_at_once_and_then_with_a_growing_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}

    def child(module: str, arguments: Any, **options: Any) -> Child:
        made[module] = options
        return Child(module, arguments, **options)

    monkeypatch.setattr(supervisor, "Child", child)
    async with asyncio.TaskGroup() as tasks:
        mesh = supervisor.Supervisor(State.at(tmp_path), tasks, Nobody(), supervisor.THIS_MACHINE)
        await mesh._registry.close()

    backoff = made["mesh.controlplane"]["backoff"]
    assert [backoff.after(timedelta()).total_seconds() for _ in range(3)] == [0, 0.5, 1]
