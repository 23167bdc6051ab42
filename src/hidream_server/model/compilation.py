"""Compiles the blocks of a transformer, where nearly all of a step's time goes."""

from diffusers import HiDreamImageTransformer2DModel


def compile_blocks(
    transformer: HiDreamImageTransformer2DModel, whole: bool = True, backend: str = "inductor"
) -> None:
    """Compile the blocks in place, when they are first called: one row, two rows, and more.

    All blocks of a class share what is compiled, for pictures of every size. Unless they may be
    compiled in pieces, between what ranks say to each other, a block that cannot be compiled as a
    `whole` raises when it is called. Results differ by rounding from those of blocks that are not
    compiled.
    """
    for block in (*transformer.double_stream_blocks, *transformer.single_stream_blocks):
        block.block.compile(backend=backend, fullgraph=whole, dynamic=True)
