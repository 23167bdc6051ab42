"""The parts of the soak: clients, chaos, the machine they act on, and what must hold at the end."""
