"""How many worker groups one PostgreSQL carries: what its work costs, and where that bends."""
