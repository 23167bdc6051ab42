"""Signed messages to receivers of clients' choosing; knows the network, not tasks and no SQL."""
