"""What is wrong with a document, in the words of whoever wrote it."""

from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from mesh.config.nearest import did_you_mean
from mesh.config.yaml_text import Path, Source
from mesh.errors import ConfigError


def problem_of(detail: ErrorDetails, source: Source, model: type[BaseModel]) -> ConfigError:
    """One of pydantic's findings about `source`, which was read as a `model`."""
    path: Path = tuple(part for part in detail["loc"] if part != "[key]")
    field = ".".join(str(part) for part in path)
    match detail["type"]:
        case "extra_forbidden":
            remedy = did_you_mean(str(path[-1]), _fields_at(model, path[:-1]), "Remove it")
            return ConfigError(source.where(path), f"unknown field {field}", remedy)
        case "missing":
            return ConfigError(source.where(path), f"{field} is missing", f"Add `{path[-1]}:`")
        case "literal_error" | "enum":
            problem = f"{field}: {detail['input']!r} is not known"
            return ConfigError(source.where(path), problem, f"Write {detail['ctx']['expected']}")
        case "value_error":
            problem, remedy = in_two(str(detail["ctx"]["error"]))
            return ConfigError(source.where(path), f"{field}: {problem}", remedy)
    problem = f"{field}: {detail['msg'][0].lower()}{detail['msg'][1:]}, not {_short(detail['input'])}"
    return ConfigError(source.where(path), problem, "Change it")


def in_two(sentence: str) -> tuple[str, str]:
    """Problem and remedy of a message that our own checks write as `problem; remedy`."""
    problem, _, remedy = sentence.partition("; ")
    return problem, f"{remedy[:1].upper()}{remedy[1:]}"


def _fields_at(model: type[BaseModel], path: Path) -> list[str]:
    """The fields that a mapping at `path` may have."""
    found: Any = model
    for part in path:
        if isinstance(part, str):
            by_name = {field.alias: field.annotation for field in found.model_fields.values()}
            found = _model_in(by_name[part])
    return [str(field.alias) for field in found.model_fields.values()]


def _model_in(annotation: Any) -> Any:
    """The model in an annotation such as `tuple[PortSpec, ...]` or `RetrySpec | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
