"""The I/O half of Trunkline: sessions with the switches, the store, the REST API and its clients."""
