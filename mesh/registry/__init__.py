"""State and time live here: what was written, what is attached, and what every proxy has been told."""
