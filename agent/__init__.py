"""The agent of a node: owns its bridges, and tells the controller which interface is where. Native threads only."""
