"""What docs/webhooks.md tells receivers is so."""

import re
import time
from pathlib import Path

import pytest

from hidream_server.webhooks.addresses import _NEVER, _PRIVATE, MAX_URL_CHARS
from hidream_server.webhooks.backoff import next_try_s
from hidream_server.webhooks.signing import sign
from tests.webhooks.support import SECRET

DOCS = Path(__file__).parents[2].joinpath("docs", "webhooks.md").read_text(encoding="utf-8")


@pytest.fixture
def receive(monkeypatch):
    """The example's function."""
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    [example] = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)
    return names["receive"]


def test_the_example_accepts_what_is_signed_and_nothing_else(receive, capsys):
    headers = sign(SECRET, "msg_1", int(time.time()), b'{"a":1}')
    assert receive(b'{"a":1}', headers) == 204
    assert "{'a': 1}" in capsys.readouterr().out
    assert receive(b'{"a":2}', headers) == 401


def test_the_schedule_is_the_code():
    [text] = re.findall(r"sent again after (.*?), each pause", DOCS)
    units = {"s": 1, "min": 60, "h": 3600}
    pauses = [int(number) * units[unit] for number, unit in re.findall(r"(\d+) (\w+)", text)]
    assert pauses == [next_try_s(failures, 0.0) for failures in range(1, 10)]


def test_the_networks_are_the_code():
    named = set(re.findall(r"`([0-9a-f.:]+(?:/\d+)?)`", DOCS))
    [private] = re.findall(r"`--webhook-allow-private` \| (.*) \|", DOCS)
    known = {str(network) for network in _PRIVATE} | {"::1"}
    assert set(re.findall(r"`(.*?)`", private)) == known - {"::1/128"}
    never = {str(network).removesuffix("/32").removesuffix("/128") for network in _NEVER}
    outside = {"fe80::/10", "2000::/3", "64:ff9b::/96", "64:ff9b:1::/48"}
    assert {name.removesuffix("/32") for name in named} - known - outside <= never
    assert f"at most {MAX_URL_CHARS} " in DOCS
