"""The door: text in, valid model and problems out. Only this room knows how users spell things."""

from mesh.config.kinds import KINDS, kind_named
from mesh.config.parse import Parsed, Written, from_json, parse

__all__ = ["KINDS", "Parsed", "Written", "from_json", "kind_named", "parse"]
