"""What container engines ask of the agent: interfaces for their containers, with the ports made at the controller."""
