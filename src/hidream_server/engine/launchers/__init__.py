"""Ways to start the ranks of a worker group."""
