"""The only place that names a device: how many there are, their backend, dtype and environment.

Torch-free: the server process decides with it, the ranks act on it through torch's generic
accelerator interface.
"""
