"""The tables of what decides who gets in, and of who has changed what."""

from typing import Final

from sqlalchemy import Boolean, Column, Integer, LargeBinary, String, Table, Text

from mesh.registry.schema import METADATA

KEYS: Final = Table(
    "keys",
    METADATA,
    Column("name", String, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
"""Secrets of the control plane. The state is its owner's alone."""

TOKENS: Final = Table(
    "tokens",
    METADATA,
    Column("id", String, primary_key=True),
    Column("namespace", String, nullable=False),
    Column("service_account", String, nullable=False),
    Column("role", String, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("used", Integer, nullable=False),
    Column("created", String, nullable=False),
    Column("expires", String, nullable=False),
    Column("created_by", String, nullable=False),
    Column("note", String, nullable=False),
    Column("revoked", Boolean, nullable=False),
    Column("spent_for", String, nullable=False),
)
"""Tokens without what makes them worth something: their signature is not kept."""

REVOKED: Final = Table(
    "revoked",
    METADATA,
    Column("name", String, primary_key=True),
    Column("since", String, nullable=False),
)
"""SPIFFE ids, and serial numbers of certificates."""

AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", String, nullable=False),
    Column("who", String, nullable=False),
    Column("what", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("old", Text, nullable=False),
    Column("new", Text, nullable=False),
)
