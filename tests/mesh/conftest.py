"""Meshes for tests: one for all who leave it as it is, one for each module, and own ones for who needs others."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.mesh import warm
from tests.mesh.reused import Reused
from tests.mesh.running import BOOKSTORE, RunningMesh, documents, start, wait_until_ready


@pytest.fixture(scope="session", autouse=True)
def _commands() -> Iterator[None]:
    yield
    warm.close()


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reused]:
    reused = Reused(tmp_path_factory.mktemp("shared"), BOOKSTORE)
    yield reused
    reused.end()


@pytest.fixture
def shared(_shared: Reused) -> Iterator[RunningMesh]:
    """The bookstore, running. For tests that look at it, or undo what they do."""
    with _shared.lent() as mesh:
        yield mesh


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., RunningMesh]]:
    """`launch(files, ...)` is `proa up` in a state folder of the test; whatever was started ends with the test."""
    meshes: list[RunningMesh] = []

    def launched(*files: Path | str, state: str = "state", ready: bool = True, **options: Any) -> RunningMesh:
        mesh = start(tmp_path / state, *files, **options)
        meshes.append(mesh)
        if ready:
            wait_until_ready(mesh)
        return mesh

    yield launched
    for mesh in reversed(meshes):
        mesh.end()


@pytest.fixture(scope="module")
def _of_the_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reused]:
    reused = Reused(tmp_path_factory.mktemp("mended"), BOOKSTORE)
    yield reused
    reused.end()


@pytest.fixture
def mended(_of_the_module: Reused) -> Iterator[RunningMesh]:
    """The bookstore, running. For tests of a module that kill or change parts of it, which come back."""
    with _of_the_module.lent() as mesh:
        yield mesh


@pytest.fixture
def mesh(launch: Callable[..., RunningMesh]) -> RunningMesh:
    """The bookstore, running, to do anything to."""
    return launch(BOOKSTORE)


@pytest.fixture
def bookstore(tmp_path: Path) -> Callable[..., Path]:
    """`bookstore(inventory={"env": {...}})` is a mesh file of its own: the bookstore's, with other fields in a spec.

    A mapping is merged into the one that is there, anything else takes its place.
    """
    return partial(changed, tmp_path / "mesh.yaml")


def changed(path: Path, **specs: dict[str, Any]) -> Path:
    written = list(yaml.safe_load_all(BOOKSTORE.read_text()))
    for document in written:
        spec = document["spec"]
        spec["workingDirectory"] = str(BOOKSTORE.parent)
        for field, value in specs.get(document["metadata"]["name"], {}).items():
            spec[field] = {**spec[field], **value} if isinstance(value, dict) else value
    path.write_text(documents(*written))
    return path
