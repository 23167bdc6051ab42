"""HiDream Server: HiDream-I1 as a service on your own accelerator cards."""

__version__ = "0.1.0"
