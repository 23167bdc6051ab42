"""How much work is accepted: places in the queue, in all and for each client, and images a minute.

Knows numbers only; when the queue will have room is for others to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hidream_server.errors import ClientQueueFullError, QueueFullError, RateLimitedError
from hidream_server.keys import KeyLimits
from hidream_server.settings import Settings
from hidream_server.store.backlog import RATE_WINDOW_S, Backlog
from hidream_server.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The most there may be of each; 0 is no bound."""

    queued: int = 0
    client_queued: int = 0
    client_running: int = 0
    #: Images that a client may ask for in a minute.
    client_images: int = 0

    @classmethod
    def of(cls, settings: Settings) -> "Bounds":
        return cls(
            queued=settings.max_queue_length,
            client_queued=settings.max_queued_per_client,
            client_running=settings.max_running_per_client,
            client_images=settings.max_images_per_minute,
        )

    def of_key(self, limits: KeyLimits) -> "Bounds":
        """Return these as they are for the bearer of a key."""

        def one(own: int | None, default: int) -> int:
            return default if own is None else own

        return replace(
            self,
            client_queued=one(limits.max_queued, self.client_queued),
            client_running=one(limits.max_running, self.client_running),
            client_images=one(limits.max_images_per_minute, self.client_images),
        )

    def check(self, new: Sequence[Task], backlog: Backlog) -> None:
        """Raise OverloadError if these tasks are too many, and say how many, or for how long."""
        now = new[0].created_at
        if self.queued and (over := backlog.queued() + len(new) - self.queued) > 0:
            raise QueueFullError(f"The queue is full: {self.queued} tasks wait in it.", over=over)
        if self.client_queued:
            over = backlog.client_queued() + len(new) - self.client_queued
            if over > 0:
                raise ClientQueueFullError(
                    f"You may have {self.client_queued} tasks queued.", over=over
                )
        images = sum(task.params.num_images for task in new)
        if self.client_images and (wait_s := self._rate_wait(images, backlog.recent(), now)) > 0:
            raise RateLimitedError(
                f"You may ask for {self.client_images} images in a minute.", wait_s
            )

    def _rate_wait(self, images: int, recent: Sequence[tuple[float, int]], now: float) -> float:
        """Return the seconds until so many images more are within a minute's allowance."""
        over = sum(count for _, count in recent) + images - self.client_images
        wait_s = 0.0
        for at, count in recent:
            if over <= 0:
                break
            over -= count
            wait_s = at + RATE_WINDOW_S - now
        return wait_s


NO_BOUNDS = Bounds()
