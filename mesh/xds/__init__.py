"""The one place that speaks the xDS protocol: what proxies ask for, what they are told, what they accept or refuse."""
