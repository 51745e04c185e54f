"""The resolver: names of ports, and everything else by forwarding. One on the controller, for the VMs of all nodes."""
