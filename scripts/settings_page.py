"""Prints docs/settings.md, from the one declaration of every option:

.venv/bin/python scripts/settings_page.py >docs/settings.md
"""

import re
from collections.abc import Iterator
from typing import Any

from annotated_types import Ge, Gt, Le

from hidream_server.settings import Option, Settings, options

INTRODUCTION = """\
# Settings

Every option can be given as a flag of `hidream serve` (and of `hidream doctor`), as an environment
variable, or in a TOML file named with `--config` or `HIDREAM_CONFIG`, by the name of its flag
without the dashes at its front. The flag wins, then the environment, of several variables the one
named first. A value that is not allowed is refused at the start, in one sentence. Relative paths
count from the folder that the command is run in; the start script runs it in the repository.

```toml
port = 8089
model-path = "/data/HiDream-I1-Dev"
max-images-per-prompt = 4
webhook-allow-private = true
```

This page is made from `src/hidream_server/settings.py` by `scripts/settings_page.py`.
"""

#: Where a section begins, by its first option; the order is that of the declaration.
SECTIONS = {
    "model_path": "What is served",
    "devices": "Devices and layout",
    "port": "Listening, proxies, browsers",
    "data_dir": "Where things are kept",
    "log_dir": "Logs and traces",
    "max_prompt_chars": "What clients may ask for",
    "max_queue_length": "How much work is accepted",
    "keep_pictures_days": "How long things are kept",
    "webhook_allow_private": "Webhooks",
    "max_running": "Steps and previews",
    "max_crashes": "When something goes wrong",
    "prompt_cache_mb": "Caches",
}
HEAD = "| option | environment | default | allowed | meaning |\n| --- | --- | --- | --- | --- |"
#: What is said of an option whose values follow no rule that fits into a cell.
BY_MEANING = "see the meaning"


def page() -> str:
    """Return the whole page."""
    return "\n".join([INTRODUCTION, *_sections()]) + "\n"


def _sections() -> Iterator[str]:
    for option in options():
        if option.name in SECTIONS:
            yield f"{'' if option.name == 'model_path' else chr(10)}## {SECTIONS[option.name]}\n"
            yield HEAD
        yield _row(option)


def _row(option: Option) -> str:
    default = "" if option.default is None else f"`{option.default}`"
    cells = (quoted(option.flags), quoted(option.env), default, _allowed(option.name), option.help)
    return "| " + " | ".join(cells) + " |"


def quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _allowed(name: str) -> str:
    """Say in words what values the declaration allows."""
    info = Settings.model_fields[name]
    if info.annotation is bool:
        return "`true`, `false`; as a flag alone, it is on"
    limits: dict[type, Any] = {type(limit): limit for limit in info.metadata}
    if Gt in limits:
        return f"above {limits[Gt].gt:g}"
    if Ge in limits:
        return f"{limits[Ge].ge:g} {f'to {limits[Le].le:g}' if Le in limits else 'or more'}"
    patterns = [limit.pattern for limit in info.metadata if hasattr(limit, "pattern")]
    if patterns and (choice := re.fullmatch(r"\^\(([\w|]+)\)\$", patterns[0])):
        return quoted(tuple(choice[1].split("|")))
    return "a path" if "Path" in str(info.annotation) else BY_MEANING


if __name__ == "__main__":
    print(page(), end="")
