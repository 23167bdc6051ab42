"""Starts an autoencoder as a linear one: the mean colour of a patch, carried straight through.

A small autoencoder with default weights learns almost nothing at first. Here the first channels
of every level carry the colours (and their negatives, so that silu(c) - silu(-c) = c survives the
nonlinearity), and the last two carry a large constant and its negative. The constants dominate
every group norm, which then scales all pictures, and all crops of a picture, alike. No weight
reads the constants: as inputs they would dwarf everything a step can learn.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

_COLOURS = 6  # +r +g +b -r -g -b
_CONSTANTS = 2
#: Post-norm size of a constant channel; the spread that the constants give every group norm.
_SPREAD = 1.4


def _constant(channels: int) -> float:
    return _SPREAD * (channels / _CONSTANTS) ** 0.5


def _signs() -> Tensor:
    return torch.cat([torch.eye(3), -torch.eye(3)])


def _carry(conv: nn.Conv2d, taps: Tensor) -> None:
    """Let `conv` pass colours and constants on, each through the kernel `taps`."""
    weight, last = conv.weight, _CONSTANTS
    weight[:_COLOURS] = 0
    weight[-last:] = 0
    weight[:, -last:] = 0
    nn.init.zeros_(conv.bias)
    for n in range(_COLOURS):
        weight[n, n] = taps
    ratio = _constant(conv.out_channels) / _constant(conv.in_channels)
    for n in (-2, -1):  # only these two weights read them
        weight[n, n] = taps * ratio


def _centre(conv: nn.Conv2d) -> Tensor:
    taps = torch.zeros(conv.kernel_size)
    taps[conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1
    return taps


def _enter(conv: nn.Conv2d) -> None:
    """Let three input channels become colours beside the constants."""
    conv.weight[:_COLOURS] = 0
    conv.weight[-_CONSTANTS:] = 0
    nn.init.zeros_(conv.bias)
    conv.weight[:_COLOURS, :3] = _signs()[..., None, None] * _centre(conv)
    value = _constant(conv.out_channels)
    conv.bias[-2:] = torch.tensor([value, -value])


def _leave(conv: nn.Conv2d, outputs: int, fresh: float) -> None:
    """Read the colours back after a norm and silu; other outputs start as `fresh` noise."""
    conv.weight.mul_(fresh)
    conv.weight[:3] = 0
    nn.init.zeros_(conv.bias)
    conv.weight[:3, :_COLOURS] = _SPREAD * _signs().T[..., None, None] * _centre(conv)
    conv.weight[:, -_CONSTANTS:] = 0
    conv.weight[outputs:] = 0


def _no_grad_at(parameter: nn.Parameter, *places: object) -> None:
    def masked(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        for place in places:
            gradient[place] = 0
        return gradient

    parameter.register_hook(masked)


def keep_constants(vae: AutoencoderKL) -> None:
    """Keep training from touching the constant channels."""
    last, columns = slice(-_CONSTANTS, None), (slice(None), slice(-_CONSTANTS, None))
    firsts = {vae.encoder.conv_in, vae.decoder.conv_in}
    ends = {vae.encoder.conv_out, vae.decoder.conv_out}
    for conv in (module for module in vae.modules() if isinstance(module, nn.Conv2d)):
        places = ([] if conv in firsts else [columns]) + ([] if conv in ends else [last])
        _no_grad_at(conv.weight, *places)
        if conv not in ends:
            _no_grad_at(conv.bias, last)


def _start_residual(block: nn.Module) -> None:
    """Let the branch add little, and hold constants of its own between its two convolutions."""
    value = _constant(block.conv1.out_channels)
    nn.init.zeros_(block.conv1.bias)
    block.conv1.weight[:, -_CONSTANTS:] = 0
    block.conv1.weight[-_CONSTANTS:] = 0
    block.conv1.bias[-2:] = torch.tensor([value, -value])
    nn.init.zeros_(block.conv2.bias)
    block.conv2.weight.mul_(0.1)
    block.conv2.weight[:, -_CONSTANTS:] = 0
    for end in (slice(None, _COLOURS), slice(-_CONSTANTS, None)):
        block.conv2.weight[end] = 0
    if block.conv_shortcut is not None:
        _carry(block.conv_shortcut, _centre(block.conv_shortcut))


@torch.no_grad()
def start_linear(vae: AutoencoderKL) -> None:
    """Replace the weights of a fresh autoencoder in place."""
    for module in vae.modules():
        if hasattr(module, "conv_shortcut") and hasattr(module, "conv2"):
            _start_residual(module)
    for block in vae.encoder.down_blocks:
        for sampler in block.downsamplers or ():
            # The sampler pads below and to the right: these four taps are one 2x2 patch.
            taps = torch.zeros(3, 3)
            taps[:2, :2] = 0.25
            _carry(sampler.conv, taps)
    for block in vae.decoder.up_blocks:
        for sampler in block.upsamplers or ():
            _carry(sampler.conv, _centre(sampler.conv))
    _enter(vae.encoder.conv_in)
    _enter(vae.decoder.conv_in)
    _leave(vae.encoder.conv_out, vae.config.latent_channels, 1.0)
    _leave(vae.decoder.conv_out, 3, 0.0)
