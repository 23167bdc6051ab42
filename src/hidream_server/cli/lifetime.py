"""What the life of every process that works has: a start, signals, housekeeping, an end."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncGenerator, Callable, Iterator

from hidream_server.cli.members import follow_pace
from hidream_server.cli.stores import Stores
from hidream_server.engine.membership import SAY_S, Membership
from hidream_server.engine.replicas import Replicas
from hidream_server.errors import HiDreamError
from hidream_server.logs import end_startup_log, set_up_logs
from hidream_server.settings import Settings

logger = logging.getLogger(__name__)

#: How often the housekeeper looks whether there is something to be done, in seconds.
_TIDY_S = 5.0

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def hold_signals() -> None:
    """Let a signal that comes too early wait until there is something to be stopped in order."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)


def start_logs(settings: Settings) -> logging.Handler:
    """Log as the settings say; return the handler of the start's own log."""
    return set_up_logs(
        settings.log_dir, settings.log_level, settings.log_file_mb * 2**20, settings.log_format
    )


@contextlib.contextmanager
def logging_mistakes() -> Iterator[None]:
    """Let the log know where a mistake of the program's arose: the command line says only what."""
    try:
        yield
    except HiDreamError:
        raise
    except Exception:
        logger.critical("The server ends by a mistake of the program", exc_info=True)
        raise


def stop_on_signals(engine: Replicas, drain_s: float) -> None:
    """Drain on the first signal; hand everything back at once on the second."""

    def stop() -> None:
        again = engine.stopping
        engine.stop(drain_s=0 if again else None)
        if again:
            logger.info("Stopping now")
        else:
            logger.info(
                "Stopping: %d running task(s) may finish, within %.0f s; a second signal hands"
                " them back to the queue now",
                engine.running,
                drain_s,
            )

    call_on_signals(stop)


def call_on_signals(stop: Callable[[], None]) -> None:
    """Have this called, in the running loop, by each signal that asks for a stop."""
    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


@contextlib.asynccontextmanager
async def kept_in_order(
    stores: Stores, membership: Membership, engine: Replicas, startup: logging.Handler
) -> AsyncGenerator[None]:
    """Keep house, and in touch with other processes, for as long as this lasts."""
    await asyncio.to_thread(membership.refresh)
    keeping = [
        asyncio.create_task(_keep_doing(stores.housekeeper.watch)),
        asyncio.create_task(_keep_doing(stores.housekeeper.tidy)),
        asyncio.create_task(_keep_in_touch(stores, membership, bool(engine.supervisors))),
        asyncio.create_task(_follow_startup(engine, startup)),
    ]
    try:
        yield
    finally:
        # The thread of a task that is cancelled goes on, and the process ends after it.
        stores.housekeeper.stop()
        for task in keeping:
            task.cancel()
        await asyncio.to_thread(membership.leave)


async def _keep_doing(duty: Callable[[], object]) -> None:
    while True:
        await asyncio.to_thread(duty)
        await asyncio.sleep(_TIDY_S)


async def _keep_in_touch(stores: Stores, membership: Membership, has_own: bool) -> None:
    while True:
        try:
            await asyncio.to_thread(membership.refresh)
            follow_pace(stores.outlook, membership.members, has_own)
        except Exception:
            # A group of another version may say what this one does not understand; who then said
            # nothing more of its own groups would be thought gone.
            logger.exception("What other processes say of their groups could not be understood")
        await asyncio.sleep(SAY_S)


async def _follow_startup(engine: Replicas, startup: logging.Handler) -> None:
    await engine.wait_ready()
    end_startup_log(startup)
