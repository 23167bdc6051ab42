"""Worker groups as replicas of Ray Serve; nobody but `hidream cluster` comes here."""
