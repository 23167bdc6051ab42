"""Which layouts a model and a number of cards allow, and which one is taken."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product

from hidream_server.errors import ConfigurationError, LayoutUnavailableError
from hidream_server.layouts.cost import Picture, step_cost
from hidream_server.layouts.layout import Layout
from hidream_server.model_directory.configs import TransformerConfig
from hidream_server.model_directory.description import TEXT_TOKENS, ModelDescription
from hidream_server.settings import Settings

#: What is documented to users for so many cards.
DOCUMENTED = {
    1: Layout(),
    2: Layout(tp=2),
    4: Layout(tp=4),
    8: Layout(tp=4, ep=2),
}
_SIZES = {"cfg": (1, 2), "sp": (1, 2, 4, 5, 8), "tp": (1, 2, 4, 5), "ep": (1, 2, 4)}

#: For comparing layouts: operations and bytes a second of a card of these years.
_CARD = (140e12, 80e9)


def choose_layout(
    settings: Settings, model: ModelDescription, cards: int, fits: Callable[[Layout], bool]
) -> Layout:
    """Return the layout that these settings ask for on so many cards.

    `fits` tells whether there is memory for a layout; only the fastest is chosen by it.

    Raises LayoutUnavailableError, with the possible ones, for what model or cards do not allow.
    """
    config = model.transformer
    sizes = {"tp": settings.tp_size, "ep": settings.ep_size}
    given = {axis: size for axis, size in sizes.items() if size is not None}
    if settings.layout is not None and given:
        raise ConfigurationError("Give --layout, or --tp-size and --ep-size, but not both.")
    if settings.layout == "fast":
        rows = 2 if model.variant.default_guidance > 1 else 1
        picture = Picture(image_tokens=model.max_image_tokens, text_tokens=TEXT_TOKENS, rows=rows)
        every = possible(config, cards)
        # Where nothing fits, the check of the memory says so with its numbers.
        return fastest(config, list(filter(fits, every)) or every, picture)
    if settings.layout is not None:
        layout = Layout.parse(settings.layout)
    else:
        layout = replace(documented(config, cards), **given)
    check(layout, config, cards)
    return layout


def obstacle(layout: Layout, config: TransformerConfig, cards: int) -> str | None:
    """Say why a model cannot be served by a layout on so many cards, None if it can."""
    heads, experts = config.num_attention_heads, config.num_routed_experts
    of_model = {
        "tp": [n for n in _SIZES["tp"] if heads % n == 0],
        "ep": [n for n in _SIZES["ep"] if n <= experts],
    }
    for axis, allowed in (_SIZES | of_model).items():
        size = getattr(layout, axis)
        if size not in allowed:
            return (
                f"with {heads} attention heads and {experts} experts {axis} can be"
                f" {', '.join(str(n) for n in allowed)}, not {size}"
            )
    if layout.ranks > cards:
        return f"it takes {layout.ranks} cards, and there are {cards}"
    return None


def possible(config: TransformerConfig, cards: int) -> list[Layout]:
    """Return every layout of a model on so many cards or fewer, smallest first."""
    every = (Layout(**dict(zip(_SIZES, sizes, strict=True))) for sizes in product(*_SIZES.values()))
    allowed = [layout for layout in every if obstacle(layout, config, cards) is None]
    return sorted(allowed, key=lambda layout: (layout.ranks, str(layout)))


def check(layout: Layout, config: TransformerConfig, cards: int) -> None:
    """Raise LayoutUnavailableError, with the layouts that are possible, for one that is not."""
    trouble = obstacle(layout, config, cards)
    if trouble is not None:
        names = ", ".join(str(layout) for layout in possible(config, cards))
        raise LayoutUnavailableError(
            f"The layout {layout} is not possible: {trouble}. Possible are: {names}."
        )


def documented(config: TransformerConfig, cards: int) -> Layout:
    """Return the largest documented layout that a model and so many cards allow."""
    fitting = (layout for layout in DOCUMENTED.values() if not obstacle(layout, config, cards))
    return max(fitting, key=lambda layout: layout.ranks)


def fastest(config: TransformerConfig, layouts: Iterable[Layout], picture: Picture) -> Layout:
    """Return the layout whose step is shortest, by formulas; the first of equal ones."""
    return min(
        layouts,
        key=lambda layout: step_cost(config, layout, picture).seconds(*_CARD),
    )


def ladder(top: Layout, config: TransformerConfig, fits: Callable[[Layout], bool]) -> list[Layout]:
    """Return the layouts to fall back on, from one down to the smallest that fits."""
    smaller = [
        layout
        for layout in DOCUMENTED.values()
        if layout.ranks < top.ranks and not obstacle(layout, config, top.ranks) and fits(layout)
    ]
    return [top, *sorted(smaller, key=lambda layout: -layout.ranks)]
