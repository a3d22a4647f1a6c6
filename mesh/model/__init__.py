"""What the mesh is: frozen values and the names that two rooms must agree on. Nothing here knows Envoy, time or I/O."""
