"""Bytes and versions: whether a configuration has changed is decided here, once."""
