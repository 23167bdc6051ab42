"""Every connection is an open file: lets this process have as many as it may need."""

import logging
import resource

logger = logging.getLogger(__name__)

#: What is open beside connections: the database, pictures, logs, ranks.
_OTHERS = 512


def allow_connections(most: int) -> None:
    """Raise the limit on open files for so many connections, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = most + _OTHERS
    if soft != resource.RLIM_INFINITY and soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < needed:
            logger.warning(
                "This system lets the server open %d files (ulimit -Hn): not enough for"
                " --max-connections %d and %d others",
                allowed,
                most,
                _OTHERS,
            )
