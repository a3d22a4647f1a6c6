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
    problem, remedy = _of_another_kind(detail)
    return ConfigError(source.where(path), f"{field}: {problem}", remedy)


def _of_another_kind(detail: ErrorDetails) -> tuple[str, str]:
    """Problem and remedy of a value that is not of the kind that the field holds."""
    value, limits = detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "tuple_type":
            items = ", ".join(value.split()) if isinstance(value, str) else "…"
            return f"{_short(value)} is no list", f"Write it as a list: [{items}]"
        case "model_type" | "mapping_type" | "dict_type":
            return f"{_short(value)} is no mapping", "Write it as a mapping: {name: value}"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"{_short(value)} is no whole number", "Write digits"
        case "too_short":
            return "there are none", "Write one"
        case "too_long":
            return f"there are {limits['actual_length']}", f"Keep {limits['max_length']} or fewer"
        case "greater_than_equal":
            return f"{_short(value)} is too small", f"Write {limits['ge']} or more"
        case "less_than_equal":
            return f"{_short(value)} is too large", f"Write {limits['le']} or less"
    return f"{detail['msg'][0].lower()}{detail['msg'][1:]}, not {_short(value)}", "Change it"


def follows(detail: ErrorDetails) -> bool:
    """Whether the finding is that a list is too short, only because items of it are bad."""
    return detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]


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
