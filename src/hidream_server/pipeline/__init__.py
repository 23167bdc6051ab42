"""Prompt → embeddings → steps → pixels. Cannot tell whether the network is sharded."""
