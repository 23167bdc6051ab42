"""The `hidream` command: puts the parts together and talks to people."""
