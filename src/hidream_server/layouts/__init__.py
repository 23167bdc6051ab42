"""How a worker group splits the work: axes, the sharding plan as data, what a rank must hold."""
