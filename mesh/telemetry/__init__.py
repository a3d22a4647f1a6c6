"""Numbers about the mesh, for people who watch it."""
