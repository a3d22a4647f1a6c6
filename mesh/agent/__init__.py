"""The agent: one process per instance, which starts the Envoy and the service and answers for both."""
