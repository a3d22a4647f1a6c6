"""Views to Envoy's protobufs. Pure; one file per Envoy resource or part of one."""
