"""Which rank holds which text encoder, and the autoencoder."""

from collections.abc import Mapping

from hidream_server.model_directory.components import VAE


def place_components(sizes: Mapping[str, int], ranks: int) -> dict[str, int]:
    """Return the rank of each component; `sizes` in bytes, of everything but the transformer.

    The autoencoder is with rank 0, which speaks for the group and so decodes; the largest of the
    others goes where there is most room left.
    """
    held = [0] * ranks
    owners: dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: (name != VAE.name, -sizes[name], name)):
        rank = 0 if name == VAE.name else min(range(ranks), key=held.__getitem__)
        owners[name] = rank
        held[rank] += sizes[name]
    return owners
