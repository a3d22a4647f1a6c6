"""What applies to whom. One place decides precedence; nothing here knows Envoy."""
