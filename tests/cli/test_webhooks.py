"""What the server's deliverer sends, to a real receiver: signed for its client, with its links."""

import asyncio
from types import SimpleNamespace

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from hidream_server.api.keyring import LinkSigner
from hidream_server.cli.webhooks import new_deliverer, webhook_secrets
from hidream_server.keys import KeyLimits, Scope
from hidream_server.settings import Settings
from hidream_server.store.keys import KeyStore
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task, TaskState
from tests.support import new_database, new_queue, params
from tests.webhooks.support import Received, receiving

TASK_ID = "3f0d6a1e-9c1b-4e57-8a44-0b6f6d2f9c11"


@pytest.fixture
def stores(tmp_path):
    database = new_database(tmp_path / "tasks.db")
    yield SimpleNamespace(database=database, queue=new_queue(TaskStore(database)))
    database.dispose()


def told(stores, client: str, **options: object) -> Received:
    """Complete a task of this client's, and return what its receiver gets."""
    settings = Settings(webhook_allow_private=True, **options)
    signer = LinkSigner(b"a secret", 3600.0, clock=lambda: 1000.0)

    async def deliver() -> list[Received]:
        async with receiving() as receiver:
            task = Task(
                id=TASK_ID,
                state=TaskState.QUEUED,
                params=params(),
                created_at=1.0,
                client=client,
                webhook_url=f"http://127.0.0.1:{receiver.port}/hook",
            )
            stores.queue.submit([task])
            stores.queue.claim("g", 1)
            stores.queue.complete((TASK_ID, 1), [f"{TASK_ID}_1_0.png"], {})
            deliverer = new_deliverer(settings, stores, signer)
            deliverer.stop()
            await deliverer.run()
            return receiver.received

    [received] = asyncio.run(deliver())
    return received


def test_without_keys_all_have_one_secret_and_links_that_do_not_end(stores):
    received = told(stores, "192.0.2.7")
    message = Webhook(webhook_secrets(stores.database)("")).verify(received.body, received.headers)
    assert message["type"] == "task.completed"
    assert message["data"]["result_urls"] == [f"/images/{TASK_ID}_1_0.png"]


def test_with_a_key_the_secret_is_its_own_and_links_are_signed(stores):
    keys = KeyStore(stores.database)
    anna, ben = (keys.create(name, Scope.GENERATE, KeyLimits(), 1.0)[0] for name in "ab")
    received = told(stores, anna.id, api_base_url="https://hidream.example/api/")
    secret = webhook_secrets(stores.database)
    for other in (ben.id, ""):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret(other)).verify(received.body, received.headers)
    message = Webhook(secret(anna.id)).verify(received.body, received.headers)
    [url] = message["data"]["result_urls"]
    link, _, query = url.partition("?")
    assert link == f"https://hidream.example/api/images/{TASK_ID}_1_0.png"
    assert query.startswith("expires=4600&signature=")


def test_private_addresses_are_for_the_servers_owner_to_allow(stores, caplog):
    task = Task(
        id=TASK_ID,
        state=TaskState.QUEUED,
        params=params(),
        created_at=1.0,
        webhook_url="http://127.0.0.1:9/hook",
    )
    stores.queue.submit([task])
    stores.queue.cancel(TASK_ID)
    deliverer = new_deliverer(Settings(), stores, LinkSigner(b"a secret", 3600.0))
    deliverer.stop()
    asyncio.run(deliverer.run())
    assert "given up at try 1: A webhook may not go to this address" in caplog.text
