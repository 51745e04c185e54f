"""A private cloud on one machine: nodes, a rack, an outside world and VMs, all in network namespaces."""
