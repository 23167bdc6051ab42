"""The program that each rank of a worker group runs."""
