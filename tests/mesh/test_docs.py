"""The documentation is true: its commands run, its documents are accepted, its links lead somewhere."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mesh.config import parse
from mesh.model.documents import GROUP_VERSION
from tests.mesh import warm
from tests.mesh.running import BOOKSTORE, ROOT, RunningMesh

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TESTED_ELSEWHERE = re.compile(r"make \w+|proa (up|down|bootstrap)\b")
"""Commands that start or end what the others need, or do not end by themselves."""

each_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """Each `$ ` line of the page's consoles, as words."""
    lines = [line for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]
    return [shlex.split(line[2:], comments=True) for line in lines]


@pytest.mark.envoy
def test_every_command_of_the_documentation_works(
    launch: Callable[..., RunningMesh], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = launch(BOOKSTORE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".proa").symlink_to(mesh.state.folder)
    (tmp_path / "services").symlink_to(ROOT / "services")
    tried = 0
    for page in PAGES:
        for command in commands(page):
            if TESTED_ELSEWHERE.match(shlex.join(command)):
                continue
            assert command[0] == "proa", f"{page.name}: nobody tries {command}"
            done = warm.proa(*command[1:])
            assert done.returncode == 0, f"{page.name}: {shlex.join(command)}: {done.stderr}"
            tried += 1
    assert tried > 10


@each_page
def test_every_document_of_the_documentation_is_accepted(page: Path) -> None:
    for block in blocks(page, "yaml"):
        for line in re.split(r"(?m)^(?=spec: \{)", block):
            fragment = yaml.safe_load(line)
            if fragment is None:
                continue
            whole = {"apiVersion": GROUP_VERSION, "kind": "Workload", "metadata": {"name": "a"}, **fragment}
            assert parse(yaml.safe_dump(whole), page.name, "/").problems == ()


@each_page
def test_every_link_of_the_documentation_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []
