"""Types of single fields, each with the sentence a person gets when it does not fit."""

import re
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from mesh.model.duration import duration

V = TypeVar("V")

# Always with fullmatch: to `$` a newline at the end is no difference.
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,256}")
SERVICE: Final = re.compile(r"[A-Za-z_][A-Za-z_0-9]*(\.[A-Za-z_][A-Za-z_0-9]*)*")
METHOD: Final = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def is_label(text: str) -> bool:
    """Whether a namespace, a service or a version may have this name."""
    return _LABEL.fullmatch(text) is not None


class Spec(BaseModel):
    """A mapping of a document: camelCase keys, none that we do not know."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, frozen=True)


class OneOf(Spec):
    """Has the field that its `type` names, `replaceFullPath` for ReplaceFullPath, and none of the others."""

    type: str

    @model_validator(mode="after")
    def _what_type_says(self) -> Self:
        fields = {str(field.alias): name for name, field in type(self).model_fields.items() if name != "type"}
        own = next(alias for alias in fields if alias.lower() == self.type.lower())
        if getattr(self, fields[own]) is None:
            raise ValueError(f"type {self.type} needs {own}; add it")
        if others := [alias for alias, name in fields.items() if alias != own and getattr(self, name) is not None]:
            raise ValueError(f"{others[0]} does not belong to type {self.type}; remove it")
        return self


def twice(values: Iterable[V]) -> V | None:
    """The first value that is there more than once."""
    return next((value for value, count in Counter(values).items() if count > 1), None)


def _duration(value: Any) -> timedelta:
    if isinstance(value, int):
        raise ValueError(f"{value} has no unit; write for example {value}s or {value}ms")
    return duration(_text(value))


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta():
        raise ValueError("it must be more than 0s; give it a length")
    return value


def _text(value: Any) -> str:
    """Text, and numbers and booleans as they were written: an environment holds nothing else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    raise ValueError("it must be text; write a word or put it in quotes")


def _matching(pattern: re.Pattern[str], most: int, remark: str) -> BeforeValidator:
    def check(value: Any) -> str:
        text = _text(value)
        if not pattern.fullmatch(text) or len(text) > most:
            raise ValueError(f"{text!r} is not allowed; use {remark}")
        return text

    return BeforeValidator(check)


Text = Annotated[str, BeforeValidator(_text)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
PositiveDuration = Annotated[timedelta, BeforeValidator(lambda value: _positive(_duration(value)))]
Label = Annotated[str, _matching(_LABEL, 63, "a-z, 0-9 and (inside) -, at most 63 characters")]
Domain = Annotated[str, _matching(_DOMAIN, 253, "a-z, 0-9, - and dots, at most 253 characters")]
Variable = Annotated[str, _matching(_VARIABLE, 255, "letters, digits and _, no digit first")]
Token = Annotated[str, _matching(_TOKEN, 256, "letters, digits and !#$%&'*+-.^_`|~, at most 256 characters")]
HeaderName = Annotated[Token, AfterValidator(str.lower)]
ServiceName = Annotated[str, _matching(SERVICE, 1024, "the full name of a gRPC service: package.Service")]
MethodName = Annotated[str, _matching(METHOD, 1024, "the name of a gRPC method alone")]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
