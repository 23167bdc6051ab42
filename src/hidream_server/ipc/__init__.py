"""What the server process and the ranks say to each other, and how it travels."""

#: Names of the environment variables by which a rank finds its supervisor.
CONTROL_ADDRESS = "HIDREAM_CONTROL_ADDRESS"
CONTROL_TOKEN = "HIDREAM_CONTROL_TOKEN"
