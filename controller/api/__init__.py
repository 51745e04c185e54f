"""The REST API: one gate that authenticates and answers, one file per resource."""
