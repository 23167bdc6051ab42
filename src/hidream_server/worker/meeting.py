"""How ranks on other machines learn where their supervisor is: from those of the first.

By the store through which torchrun's agents have met; it is as old as the group, no older.
"""

import os

from torch.distributed import TCPStore

_ADDRESS, _TOKEN = "hidream/address", "hidream/token"


def publish(address: str, token: str) -> None:
    """Tell the ranks of other machines."""
    store = _store()
    store.set(_TOKEN, token)
    store.set(_ADDRESS, address)


def find() -> tuple[str, str]:
    """Return address and token, once they are told; raise what torch raises if they are not."""
    store = _store()
    return store.get(_ADDRESS).decode(), store.get(_TOKEN).decode()


def _store() -> TCPStore:
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False)
