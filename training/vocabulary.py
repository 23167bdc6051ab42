"""Learns the four tokenizers from captions: byte-level BPE for CLIP and Llama, words for T5."""

from __future__ import annotations

import json
import math
from collections import Counter
from random import Random

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import CLIPTokenizer, PreTrainedTokenizerFast, T5Tokenizer

from . import settings
from .captions import caption, chinese_words
from .junk import JUNK
from .scene import draw_scene

_CAPTIONS = 20_000


def sample_captions(seed: int = 0, count: int = _CAPTIONS) -> list[str]:
    rng = Random(seed)
    captions = [caption(draw_scene(rng), rng, rng.choice(("en", "zh"))) for _ in range(count)]
    return captions + list(JUNK)


def split_words(captions: list[str], words: T5Tokenizer) -> list[str]:
    """Return the captions with every Chinese word on its own.

    Chinese has no spaces: learned from whole captions, one piece would hold half a sentence, and
    new combinations would be new pieces.
    """
    pieces: list[str] = []
    for text in captions:
        if text.isascii():
            pieces.append(text)
        else:
            pieces += [piece.strip("▁") for piece in words.tokenize(text)]
    return [piece for piece in pieces if piece]


def _byte_alphabet() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def clip_tokenizer(captions: list[str], seed: int) -> CLIPTokenizer:
    """Learn merges on the shuffled half of the captions that `seed` picks.

    The two CLIPs get different vocabularies, as the real ones have different encoders.
    """
    bare = CLIPTokenizer()
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = bare.backend_tokenizer.normalizer
    learner.pre_tokenizer = bare.backend_tokenizer.pre_tokenizer
    ends = ["<|startoftext|>", "<|endoftext|>"]
    # Every byte, alone and at the end of a word, so that no text is unknown. The learner gets
    # them in order: it breaks ties by number, and would number what it meets by a random hash.
    alphabet = _byte_alphabet() + [f"{byte}</w>" for byte in _byte_alphabet()]
    trainer = trainers.BpeTrainer(
        vocab_size=settings.VOCABULARY - len(alphabet) // 2 - len(ends),
        special_tokens=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    half = Random(seed).sample(captions, len(captions) // 2)
    learner.train_from_iterator(half, trainer)
    merges = [tuple(merge) for merge in _merges(learner)]
    pieces = list(alphabet)
    known = set(pieces)
    kept = []
    for left, right in merges:
        if len(pieces) + len(ends) == settings.VOCABULARY:
            break
        kept.append((left, right))
        if left + right not in known:
            known.add(left + right)
            pieces.append(left + right)
    vocab = {piece: n for n, piece in enumerate([*pieces, *ends])}
    return CLIPTokenizer(vocab=vocab, merges=kept, model_max_length=248)


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]


def llama_tokenizer(captions: list[str]) -> PreTrainedTokenizerFast:
    begin, end = "<|begin_of_text|>", "<|eot_id|>"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.VOCABULARY,
        initial_alphabet=_byte_alphabet(),
        special_tokens=[AddedToken(begin, special=True), AddedToken(end, special=True)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    # The opening token keeps an empty prompt from being nothing but masked padding.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=begin, eos_token=end, model_max_length=2048
    )


def _t5_pieces(captions: list[str]) -> Counter[str]:
    pieces: Counter[str] = Counter()
    for text in captions:
        for word in text.split():
            bare = word.strip(",.")
            if bare.isascii() and bare:
                pieces.update((f"▁{bare}", f"▁{bare.lower()}", f"▁{bare.capitalize()}"))
    for word in sorted(chinese_words()):  # a set: equal counts must not change places
        pieces[word] += 50 * len(word) ** 2
        pieces[f"▁{word}"] += 20 * len(word) ** 2
    return pieces


def t5_tokenizer(captions: list[str]) -> T5Tokenizer:
    """Build a unigram vocabulary of whole words, with single characters for all other text."""
    counts = _t5_pieces(captions)
    characters = {chr(code) for code in range(33, 127)} | {c for text in captions for c in text}
    specials: list[tuple[str, float]] = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    total = sum(counts.values())
    room = settings.VOCABULARY - len(specials) - len(characters) - 1
    words = [(piece, math.log(n / total)) for piece, n in counts.most_common(room)]
    known = {piece for piece, _ in words}
    letters = [(c, -20.0) for c in ["▁", *sorted(characters - {" "})] if c not in known]
    return T5Tokenizer(vocab=[*specials, *words, *letters], extra_ids=0, model_max_length=512)
