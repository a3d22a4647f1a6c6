"""The rules of the house that no other tool checks: sizes, rooms, and what may not stand in a file."""

import ast
import re
import subprocess
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = ROOT / "docs" / "ARCHITECTURE.md"

FILE_LINES = 400
FUNCTION_LINES = 60
MEDIAN_FUNCTION_LINES = 10
CORE_LINES = 18_000
MESH_LINES = 23_000
"""Code lines, not comments and docstrings: explanations should not have to be short for the sake of a budget."""
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
OUTSIDE_CORE = ("delivery", "dashboard", "kubernetes")

PURE = ("model", "config", "policy", "translate")
MEMORY = re.compile(r"\{\}|\[\]|(\w+\.)?((lru_)?cache(\(.*\))?|(dict|list|set|defaultdict|Weak\w+)(\[.*\])?\(\w*\))")
"""A cache of a function, or an empty container."""

MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:home|root|Users|work)/\w")
REGISTRY = re.compile(
    r"--(?:extra-)?index-url|pythonhosted\.org|pypi\.org/simple|registry\.npmjs|//[\w.-]*(?:artifactory|goproxy|nexus|proxy\.golang)"
)
UNDONE = re.compile(r"\b(?:TODO|FIXME|XXX)\b(?!\(#\d+\))")
HERE = Path(__file__).resolve()


@cache
def ours() -> tuple[Path, ...]:
    """Every file that is or would be in git. Generated code is in neither."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    paths = (ROOT / name for name in listed.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def python_files(*folders: str) -> list[Path]:
    return [path for path in ours() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders]


def length(path: Path) -> int:
    return len(path.read_text().splitlines())


def code_lines(path: Path) -> int:
    """Lines that hold code: neither blank nor only a comment or a docstring."""
    source = path.read_text()
    tokens = tokenize.generate_tokens(iter(source.splitlines(keepends=True)).__next__)
    code = {line for token in tokens if token.type not in NO_CODE for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(code)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function of a file as `path:line name`, with its length in lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            end = node.end_lineno or node.lineno
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", end - node.lineno + 1


def memories(path: Path) -> Iterator[str]:
    """Where functions and methods of a module are cached, or it has an empty container for what is yet to come."""
    bodies = [ast.parse(path.read_text()).body]
    for node in chain.from_iterable(bodies):  # of functions the body is not looked at: what they keep ends with them
        made: list[ast.expr] = []
        match node:
            case ast.ClassDef(body=body):
                bodies.append(body)
            case ast.FunctionDef(decorator_list=made) | ast.AsyncFunctionDef(decorator_list=made):
                pass
            case ast.Assign([ast.Name()], value) | ast.AnnAssign(ast.Name(), value=ast.expr() as value):
                made = [value]
        if any(MEMORY.fullmatch(ast.unparse(one)) for one in made):
            yield f"{path.relative_to(ROOT)}:{node.lineno}"


def imported(path: Path) -> Iterator[str]:
    """The top-level names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


def lines_with(pattern: re.Pattern[str], *, but: tuple[str, ...] = ()) -> list[str]:
    found = []
    for path in ours():
        if path == HERE or path.suffix in but:
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    return found


def test_no_file_is_too_long() -> None:
    long = {str(path): length(path) for path in python_files("mesh", "services", "tests") if length(path) > FILE_LINES}

    assert long == {}, f"more than {FILE_LINES} lines: give a part of it a file of its own"


def test_no_function_is_too_long() -> None:
    every = chain.from_iterable(functions(path) for path in python_files("mesh", "services", "tests"))

    assert {name: lines for name, lines in every if lines > FUNCTION_LINES} == {}


def test_functions_are_short() -> None:
    lines = [lines for path in python_files("mesh") for _, lines in functions(path)]

    assert median(lines) <= MEDIAN_FUNCTION_LINES


def test_the_mesh_stays_within_its_budget() -> None:
    lines: Counter[str] = Counter()
    for path in python_files("mesh"):
        lines[path.relative_to(ROOT).parts[1]] += code_lines(path)
    core = sum(count for room, count in lines.items() if room not in OUTSIDE_CORE)

    assert core <= CORE_LINES, lines
    assert lines.total() <= MESH_LINES, lines


def test_the_pure_rooms_keep_nothing_from_one_call_to_the_next() -> None:
    """What is made once is kept by whoever asks for it: docs/decisions/0009-what-is-made-once.md."""
    pure = (path for path in python_files("mesh") if path.relative_to(ROOT).parts[1] in PURE)

    assert list(chain.from_iterable(map(memories, pure))) == []


def test_the_reference_systems_know_nothing_of_the_mesh() -> None:
    assert [path for path in python_files("services") if {"mesh", "proa"} & set(imported(path))] == []


def test_the_mesh_knows_nothing_of_the_reference_systems() -> None:
    systems = {"services"} | {name for path in python_files("services") for name in path.relative_to(ROOT).parts[1:-1]}
    theirs = systems | {path.stem for path in (ROOT / "protos").iterdir() if path.is_dir() and path.name != "proa"}

    assert [path for path in python_files("mesh") if theirs & set(imported(path))] == []


def test_the_room_table_is_the_import_contract() -> None:
    if not ARCHITECTURE.exists():
        pytest.skip("docs/ARCHITECTURE.md is not written yet")
    layers = contract_layers()
    rows = [line.split("|")[1] for line in ARCHITECTURE.read_text().splitlines() if re.match(r"\|\s*`", line)]
    rooms = [room for row in rows for room in re.findall(r"`(\w+)`", row)]
    ranks = [next((rank for rank, layer in enumerate(layers) if room in layer), -1) for room in rooms]

    built = {path.name.removesuffix(".py") for path in (ROOT / "mesh").iterdir()} & set(chain(*layers))
    assert -1 not in ranks, f"rooms that no import contract names: {rooms}"
    assert ranks == sorted(ranks), "the table lists the rooms from the top down, as the contract does"
    assert built <= set(rooms), "rooms that the table leaves out"


def contract_layers() -> list[set[str]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rooms = next(contract for contract in contracts if contract["id"] == "rooms")
    return [set(re.findall(r"\w+", layer)) for layer in rooms["layers"]]


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    assert lines_with(MACHINE_PATH) == []


def test_no_file_names_a_package_registry() -> None:
    assert lines_with(REGISTRY) == []


def test_what_is_undone_has_an_issue() -> None:
    assert lines_with(UNDONE, but=(".md", ".txt")) == []
