"""The prompt cache is bounded in bytes and never changes an embedding."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from hidream_server.model_directory.components import CLIP_G, CLIP_L, LLAMA, T5
from hidream_server.model_directory.description import TEXT_TOKENS
from hidream_server.pipeline.conditioning import (
    Conditioning,
    Project,
    PromptEncoder,
    TextEncoder,
)

WIDTH = 4
LAYERS = 3
#: Two CLIPs, one T5 and a Llama of three layers, in fp32.
ROW_BYTES = 4 * (2 * WIDTH + TEXT_TOKENS * WIDTH + LAYERS * TEXT_TOKENS * WIDTH)


class Tokens:
    def __init__(self, prompt: str) -> None:
        letters = [ord(letter) for letter in prompt[:TEXT_TOKENS]]
        padding = TEXT_TOKENS - len(letters)
        self.input_ids = torch.tensor([letters + [0] * padding])
        self.attention_mask = torch.tensor([[1] * len(letters) + [0] * padding])


class Encoder(Module):
    """Answers like any of the encoders, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = Parameter(torch.ones(1))
        self.calls = 0

    def forward(self, ids: Tensor, **_: object) -> object:
        self.calls += 1
        states = ids.float().unsqueeze(-1).expand(1, TEXT_TOKENS, WIDTH) * self.weight

        class Output:
            text_embeds = states.sum(1)
            last_hidden_state = states
            hidden_states = (states * 0, *(states * k for k in range(1, LAYERS + 1)))

        return Output()


def encoder(cache_bytes: int, *project: Project) -> tuple[PromptEncoder, Encoder]:
    module = Encoder()
    part = TextEncoder(
        tokenizer=lambda text, **_: Tokens(text[0]), module=module, device=torch.device("cpu")
    )
    kinds = (CLIP_L, CLIP_G, T5, LLAMA)
    encoders = {kind.name: part for kind in kinds}
    return PromptEncoder(encoders, cache_bytes, _here, *project), module


def _here(_name: str, compute: Callable[[], Tensor]) -> Tensor:
    return compute()


def test_an_embedding_has_the_documented_shapes() -> None:
    prompts, _ = encoder(0)
    one = prompts.encode("ab")
    assert one.pooled.shape == (1, 2 * WIDTH)
    assert one.t5.shape == (1, TEXT_TOKENS, WIDTH)
    assert one.llama.shape == (LAYERS, 1, TEXT_TOKENS, WIDTH)
    assert one.nbytes == ROW_BYTES


def test_the_first_hidden_state_of_the_llama_is_left_out() -> None:
    prompts, _ = encoder(0)
    assert prompts.encode("ab").llama[0].abs().sum() > 0


def test_a_known_prompt_is_not_encoded_again() -> None:
    prompts, module = encoder(10 * ROW_BYTES)
    first, again = prompts.encode("ab"), prompts.encode("ab")
    assert module.calls == 4
    assert first is again


def test_look_ups_are_counted_and_what_they_found() -> None:
    prompts, _ = encoder(10 * ROW_BYTES)
    for prompt in ("a", "b", "a", "a"):
        prompts.encode(prompt)
    assert (prompts.lookups, prompts.hits) == (4, 2)


def test_the_cache_forgets_the_oldest_beyond_its_bytes() -> None:
    prompts, module = encoder(2 * ROW_BYTES)
    for prompt in ("a", "b", "c", "b", "c"):
        prompts.encode(prompt)
    assert module.calls == 3 * 4
    prompts.encode("a")
    assert module.calls == 4 * 4


def test_a_cache_smaller_than_one_prompt_still_encodes() -> None:
    prompts, module = encoder(ROW_BYTES - 1)
    torch.testing.assert_close(prompts.encode("a").t5, prompts.encode("a").t5)
    assert module.calls == 8


def test_what_is_remembered_is_projected_already() -> None:
    calls = []

    def project(t5: Tensor, llama: Tensor) -> tuple[Tensor, Tensor]:
        calls.append((t5.shape, llama.shape))
        return t5 + 1, llama[:1] * 2

    raw, _ = encoder(0)
    prompts, _ = encoder(10 * ROW_BYTES, project)
    first, again = prompts.encode("ab"), prompts.encode("ab")
    assert first is again
    assert calls == [((1, TEXT_TOKENS, WIDTH), (LAYERS, 1, TEXT_TOKENS, WIDTH))]
    torch.testing.assert_close(first.t5, raw.encode("ab").t5 + 1)
    torch.testing.assert_close(first.llama, raw.encode("ab").llama[:1] * 2)


def test_rows_are_stacked_in_order() -> None:
    prompts, _ = encoder(0)
    negative, positive = prompts.encode(""), prompts.encode("abc")
    both = Conditioning.stack([negative, positive])
    assert both.rows == 2
    torch.testing.assert_close(both.t5[1:], positive.t5)
    torch.testing.assert_close(both.llama[:, :1], negative.llama)
    torch.testing.assert_close(both.pooled[1:], positive.pooled)
