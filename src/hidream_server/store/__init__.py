"""What survives a restart: the task table and the pictures."""
