"""Reads how far a project is from what it prints."""

import re

_BAR = re.compile(r"(\d+)/(\d+) \[")


class Progress:
    """Counts the steps of a task's images by the progress bars of its output."""

    def __init__(self, steps_per_image: int, images: int) -> None:
        self._steps, self._images = steps_per_image, images
        self._finished = 0
        self._last = 0

    def read(self, text: str) -> int:
        """Take in a line; return the steps done in all images so far.

        Only bars as long as an image has steps count: models are loaded with bars, too.
        """
        for done, total in _BAR.findall(text):
            if int(total) == self._steps:
                self._follow(int(done))
        return min(self._finished + self._last, self._steps * self._images)

    def _follow(self, done: int) -> None:
        # A bar that begins anew belongs to the next image; a smaller number is another rank's.
        if done == 0 and self._last == self._steps:
            self._finished += self._steps
            self._last = 0
        self._last = max(self._last, done)
