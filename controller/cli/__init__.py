"""The operator's `trunkline` command: a client of the REST API, one file per command group."""
