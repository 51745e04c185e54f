"""What the switches should hold: pure functions from the model to OpenFlow flows."""
