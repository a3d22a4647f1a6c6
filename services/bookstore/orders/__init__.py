"""Orders: who bought what, and for how much."""
