"""Puts together what tells receivers of the ends of tasks."""

from collections.abc import Callable

from hidream_server.api.keyring import LinkSigner
from hidream_server.api.links import Links
from hidream_server.cli.stores import Stores
from hidream_server.keys import is_key_id
from hidream_server.queue.deliverer import Deliverer
from hidream_server.settings import Settings
from hidream_server.store.database import Database
from hidream_server.store.outbox import Outbox
from hidream_server.store.secrets import secret
from hidream_server.webhooks.addresses import AddressPolicy
from hidream_server.webhooks.sender import Sender
from hidream_server.webhooks.signing import client_secret


def new_deliverer(settings: Settings, stores: Stores, signer: LinkSigner) -> Deliverer:
    """Return a deliverer that hears of what happens to tasks; `run` lets it begin."""
    base = (settings.api_base_url or "").rstrip("/")
    open_links, signed_links = Links(base), Links(base, signer)

    def link(client: str, name: str) -> str:
        return (signed_links if is_key_id(client) else open_links).picture(name)

    deliverer = Deliverer(
        outbox=Outbox(stores.database),
        sender=Sender(AddressPolicy(settings.webhook_allow_private)),
        secret=webhook_secrets(stores.database),
        link=link,
    )
    stores.queue.history.on_more(deliverer.hint)
    return deliverer


def webhook_secrets(database: Database) -> Callable[[str], str]:
    """Return what tells a client's secret; all clients without a key have the same."""
    drawn = secret(database, "webhooks")
    return lambda client: client_secret(drawn, client if is_key_id(client) else "")
