"""Keys and certificates: who a workload is, and the one authority that says so."""
