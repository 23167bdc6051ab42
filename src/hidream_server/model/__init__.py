"""Loads a model directory; knows one device and no other ranks."""
