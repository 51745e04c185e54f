"""The relay: takes VMs' requests for metadata and DNS over TCP on their node, and has a controller answer."""
