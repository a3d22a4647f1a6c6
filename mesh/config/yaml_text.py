"""YAML as users write it: documents with the line of every value.

Numbers and booleans are those of YAML 1.2's core schema that read back as they were written (`on` is a word, `1.10`
stays `1.10`), so that text that only looks like a number loses nothing.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from mesh.errors import ConfigError

MAX_VALUES = 100_000
"""A document with more values, aliases unfolded, is refused: a few lines of aliases can stand for billions."""

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""What ends a text for the system, and halves of characters, which no encoding has."""

Path = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """Composes nodes only; values are made by `_Reader`."""


_Loader.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("tag:yaml.org,2002:int", r"-?(0|[1-9][0-9]{0,17})", "-0123456789"),
    ("tag:yaml.org,2002:bool", r"true|false", "tf"),
    ("tag:yaml.org,2002:null", r"~|null|", ["~", "n", ""]),
):
    _Loader.add_implicit_resolver(tag, re.compile(rf"^(?:{pattern})$"), list(first))


@dataclass(frozen=True, slots=True)
class Source:
    """One document: its value, and where each part of it is written."""

    value: Any
    path: str
    line: int
    lines: Mapping[Path, int] = field(default_factory=dict)

    def where(self, path: Path = ()) -> str:
        """`file:line` of the value at `path`, or of the nearest one around it that is written."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.path}:{self.lines.get(path, self.line)}"


def sources(text: str, path: str) -> Iterator[Source | ConfigError]:
    """Every document of a file that is not empty. One that is no YAML is an error of its own.

    The marker `---` at the start of a line ends a document whatever is in it, so that a mistake cannot spoil the next.
    """
    line = 1
    for chunk in re.split(r"(?m)^---(?=\s|$)", text):
        found = _document(chunk, path, line)
        if found is not None:
            yield found
        line += chunk.count("\n")


def _document(chunk: str, path: str, line: int) -> Source | ConfigError | None:
    try:
        node = yaml.compose(chunk, Loader=_Loader)
        if node is None:
            return None
        reader = _Reader(path, line)
        value = reader.read(node, ())
    except yaml.MarkedYAMLError as error:
        at = line + (error.problem_mark.line if error.problem_mark else 0)
        return ConfigError(f"{path}:{at}", f"this is not YAML: {error.problem or error}", "Correct this line")
    except yaml.YAMLError as error:
        return ConfigError(f"{path}:{line}", f"this is not YAML: {error}".splitlines()[0], "Correct the text")
    except ConfigError as error:
        return error
    except RecursionError:
        return ConfigError(f"{path}:{line}", "the document is nested too deeply", "Use fewer levels")
    return None if value is None else Source(value, path, reader.line_of(node), reader.lines)


class _Reader:
    """Turns nodes into plain values and remembers the line of each."""

    def __init__(self, path: str, first_line: int) -> None:
        self._path = path
        self._first_line = first_line
        self.lines: dict[Path, int] = {}

    def line_of(self, node: yaml.Node) -> int:
        return self._first_line + int(node.start_mark.line)

    def read(self, node: yaml.Node, at: Path) -> Any:
        if len(self.lines) >= MAX_VALUES:
            raise self._error(node, f"the document has more than {MAX_VALUES} values", "Split it, or use fewer aliases")
        if at in self.lines:
            raise self._error(node, f"the key {at[-1]!r} is written twice", "Keep one of them")
        self.lines[at] = self.line_of(node)
        match node:
            case yaml.MappingNode():
                return {key: self.read(value, (*at, key)) for key, value in self._pairs(node)}
            case yaml.SequenceNode():
                return [self.read(item, (*at, index)) for index, item in enumerate(node.value)]
        return _scalar(node.tag, self._text(node))

    def _pairs(self, node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node]]:
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "a key must be a word", "Write `key: value`")
            yield self._text(key), value

    def _text(self, node: yaml.Node) -> str:
        text = str(node.value)
        if _NO_TEXT.search(text):
            raise self._error(
                node, "this has a character that no program can be given", "Remove \\0 and \\ud800 to \\udfff"
            )
        return text

    def _error(self, node: yaml.Node, problem: str, remedy: str) -> ConfigError:
        return ConfigError(f"{self._path}:{self.line_of(node)}", problem, remedy)


def _scalar(tag: str, text: str) -> str | int | bool | None:
    match tag.rpartition(":")[2]:
        case "int":
            return int(text)
        case "bool":
            return text == "true"
        case "null":
            return None
    return text
