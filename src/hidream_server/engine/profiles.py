"""What worker groups found out about a model, kept so that the next start need not find it out.

Beside the tasks, not in the model's own folder, which is often shared or read-only.
"""

import logging

import msgspec

from hidream_server.ipc.messages import Profile
from hidream_server.store.blobs import Blobs

logger = logging.getLogger(__name__)


class Profiles:
    """The profiles of one model on one kind of device, by layout."""

    def __init__(self, files: Blobs, name: str) -> None:
        """`name` tells this model on these devices from others."""
        self._files = files
        self._name = name

    def get(self, layout: str) -> Profile | None:
        """Return what is known; nothing where it was written by another version."""
        data = self._files.get(self._key(layout))
        try:
            return None if data is None else msgspec.json.decode(data, type=Profile)
        except msgspec.DecodeError:
            return None

    def keep(self, layout: str, profile: Profile) -> None:
        """Keep a profile; if that is impossible, the next start takes a little longer."""
        try:
            self._files.put(self._key(layout), msgspec.json.encode(profile))
        except OSError as error:
            logger.warning("A profile could not be written: %s", error.strerror)

    def _key(self, layout: str) -> str:
        return f"{self._name}.{layout}.json"
