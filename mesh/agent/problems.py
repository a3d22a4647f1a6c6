"""What went wrong in a program of several tasks, for people."""

from collections.abc import Iterator
from contextlib import contextmanager

from mesh.errors import StateError


@contextmanager
def for_people() -> Iterator[None]:
    """Of several problems the first one comes out, as a MeshError; what is none of ours as it is: it is a bug."""
    try:
        yield
    except (OSError, BaseExceptionGroup) as error:
        raise _cause_of(error) from error


def _cause_of(error: BaseException) -> BaseException:
    match error:
        case BaseExceptionGroup(exceptions=[first, *_]):
            return _cause_of(first)
        case OSError():
            remedy = "Look whether the state folder may be written and its disk has room"
            return StateError(str(error.filename or "state"), str(error.strerror or error), remedy)
    return error
