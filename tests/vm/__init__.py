"""Real virtual machines, by software emulation."""
