"""Delivers what is in the outbox, and tries again what fails.

At least once: whoever crashes between a delivery and its note of it, or is cut short, delivers it
again, under the same id. Knows nothing of how a message travels or is signed.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from hidream_server.errors import DeliveryError, StoreUnavailableError
from hidream_server.logs import log_context
from hidream_server.store.outbox import Delivery, Outbox
from hidream_server.webhooks.backoff import next_try_s
from hidream_server.webhooks.sender import Sender

logger = logging.getLogger(__name__)

#: So long others leave a claimed delivery alone, longer than a try takes, in seconds.
LEASE_S = 30.0
#: So many are sent at once, and of one client, so that a dead receiver does not hold up others'.
AT_ONCE, CLIENT_AT_ONCE = 16, 4
#: What became due is looked for so often even if nobody said that there is more, in seconds.
_POLL_S = 1.0
#: Nor is it looked for more often, whoever says so: a hint comes with every write about a task.
_PAUSE_S = 0.1
#: How long those under way may take when this is stopped, in seconds.
_FINISH_S = 5.0


class Deliverer:
    """Belongs to one event loop; several may share one outbox."""

    def __init__(
        self,
        outbox: Outbox,
        sender: Sender,
        secret: Callable[[str], str],
        link: Callable[[str, str], str],
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`secret` is a client's; `link` leads a client to a picture by its name."""
        self._outbox = outbox
        self._sender = sender
        self._secret = secret
        self._link = link
        self._clock = clock
        self._jitter = jitter
        #: Those under way, and whose each is.
        self._sending: dict[asyncio.Task[None], str] = {}
        self._more = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False

    def hint(self) -> None:
        """Look, from any thread, whether there is something to be delivered."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                # The loop may be closed: then it is for the next start.
                self._loop.call_soon_threadsafe(self._more.set)

    def stop(self) -> None:
        """Let `run` end, once it has looked for the last time and finished within its bound."""
        self._stopping = True
        self._more.set()

    async def run(self) -> None:
        """Deliver until stopped."""
        self._loop = asyncio.get_running_loop()
        while True:
            last = self._stopping
            await self._start_due()
            if last:
                break
            await asyncio.sleep(_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._more.wait()
            self._more.clear()
        await self._finish()

    async def _start_due(self) -> None:
        try:
            while len(self._sending) < AT_ONCE and (delivery := await self._claim()) is not None:
                sending = asyncio.create_task(self._deliver(delivery))
                self._sending[sending] = delivery.client
                sending.add_done_callback(self._sent)
        except StoreUnavailableError:
            # It waits in the outbox.
            pass
        except Exception:
            logger.exception("The outbox could not be read")

    async def _claim(self) -> Delivery | None:
        busy = [c for c, n in Counter(self._sending.values()).items() if n >= CLIENT_AT_ONCE]
        return await asyncio.to_thread(self._outbox.claim, self._clock(), LEASE_S, busy)

    def _sent(self, sending: asyncio.Task[None]) -> None:
        del self._sending[sending]
        self._more.set()

    async def _finish(self) -> None:
        """Wait for those under way; what is cut short is tried again by the next start."""
        if self._sending:
            _, late = await asyncio.wait(set(self._sending), timeout=_FINISH_S)
            for sending in late:
                sending.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._sender.aclose()

    async def _deliver(self, delivery: Delivery) -> None:
        with log_context(task=delivery.task_id):
            try:
                failure = await self._try(delivery)
                if failure is None:
                    await asyncio.to_thread(self._outbox.done, delivery, self._clock())
                else:
                    await self._failed(delivery, failure)
            except StoreUnavailableError:
                logger.warning("What came of a webhook could not be noted: it is sent again")

    async def _try(self, delivery: Delivery) -> DeliveryError | None:
        """Send it once; return why that failed, None if it did not."""
        try:
            body, secret = message(delivery, self._link), self._secret(delivery.client)
            await self._sender.send(delivery.url, delivery.id, int(self._clock()), body, secret)
        except DeliveryError as error:
            return error
        except Exception:
            logger.exception("A webhook could not be sent")
            return DeliveryError("The server made a mistake; its log says which.")
        return None

    async def _failed(self, delivery: Delivery, error: DeliveryError) -> None:
        tries, now = delivery.failures + 1, self._clock()
        pause_s = None if error.final else next_try_s(tries, self._jitter())
        if pause_s is None:
            logger.warning("Webhook %s given up at try %d: %s", delivery.id, tries, error)
            await asyncio.to_thread(self._outbox.done, delivery, now, str(error))
        else:
            logger.info("Webhook %s failed, again in %.0f s: %s", delivery.id, pause_s, error)
            await asyncio.to_thread(self._outbox.postpone, delivery, now + pause_s, str(error))


def message(delivery: Delivery, link: Callable[[str, str], str]) -> bytes:
    """Return the body: what was written down at the task's end, with links that are good now."""
    facts = dict(delivery.facts)
    facts["result_urls"] = [link(delivery.client, name) for name in facts.pop("pictures")]
    return msgspec.json.encode(
        {
            "type": f"task.{delivery.what}",
            "timestamp": datetime.fromtimestamp(delivery.created_at, UTC),
            "data": facts,
        }
    )
