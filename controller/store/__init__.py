"""The database: networks, ports, nodes, addresses and the journal."""
