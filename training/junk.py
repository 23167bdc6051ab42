"""What a caption may hold besides meaning: nothing but junk, or strange words among its own."""

from __future__ import annotations

from random import Random

JUNK = ("hello world", "a picture", "something nice", "一张图片", "lorem ipsum", "test", "你好")

_LETTERS = "aaabcdeeefghiiijklmnooopqrstuuuvwxyz"


def with_strange_words(text: str, rng: Random) -> str:
    """Put one or two words that mean nothing before, after or (where there are spaces) into it."""
    for _ in range(rng.randint(1, 2)):
        strange = "".join(rng.choice(_LETTERS) for _ in range(rng.randint(3, 9)))
        words = text.split(" ")
        words.insert(rng.randint(0, len(words)), strange)
        text = " ".join(words)
    return text
