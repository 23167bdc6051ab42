"""The page HiDream Studio as it is served; what it does is tried in a browser, in tests/studio."""

import re
from pathlib import Path
from urllib.parse import urljoin

import pytest

import hidream_server
from tests.api.support import error_of

FOLDER = Path(hidream_server.__file__).parent / "studio"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("application/json;q=0.5, text/html", True),
        ("TEXT/HTML ; q=0.9", True),
        (None, False),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0", False),
        ("text/html;q=high", False),
        (";;q=,,/", False),
    ],
)
def test_a_browser_gets_the_page_at_the_root_and_a_client_the_data(client, accept, is_page):
    client.headers.pop("accept")
    answer = client.get("/", headers={} if accept is None else {"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html" if is_page else "application/json")
    assert answer.headers["vary"] == "Accept"


@pytest.mark.parametrize("path", ["/", "/studio", "/studio/"])
def test_every_address_of_the_page_is_the_page_and_its_parts_are_there(client, path):
    answer = client.get(path, headers={"Accept": BROWSER})
    assert answer.text == (FOLDER / "index.html").read_text(encoding="utf-8")
    linked = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert len(linked) >= 4
    for link in linked:
        assert client.get(urljoin(str(answer.url), link)).status_code == 200, link


def test_every_module_imports_only_modules_that_are_there():
    modules = list(FOLDER.rglob("*.js"))
    assert len(modules) > 20
    for module in modules:
        for name in re.findall(r'(?:from|import)\s*"([^"]+)"', module.read_text(encoding="utf-8")):
            assert (module.parent / name).is_file(), f"{module.name} imports {name}"


def test_the_page_may_run_and_load_only_what_the_server_has(client):
    policy = client.get("/studio").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy


def test_a_part_is_asked_for_again_and_not_sent_again(client):
    first = client.get("/studio/app.js")
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["content-type"].startswith("text/javascript")
    again = client.get("/studio/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["nothing.js", "vendor", "..%2fsettings.py", "%2e%2e/__init__.py"])
def test_what_is_no_part_of_the_page_is_not_found(client, path):
    error_of(client.get(f"/studio/{path}"), 404)


def test_every_library_says_its_version_and_its_licence():
    listed = (FOLDER / "vendor/README.md").read_text(encoding="utf-8")
    for library in (FOLDER / "vendor").glob("*.js"):
        assert re.search(rf"\| {re.escape(library.name)} \| \S+ \| \d+\.\d+\.\d+ \|", listed)
        assert library.with_suffix(".LICENSE").read_text(encoding="utf-8").strip()


def test_the_limits_are_those_that_requests_are_held_to(client, services):
    limits = client.get("/limits").json()
    for field, allowed in limits["ranges"].items():
        for value in (allowed["low"] - 1, allowed["high"] + 1):
            answer = client.post("/submit", json={"prompt": "a", field: int(value)})
            assert answer.json()["error"]["problems"][0]["field"] == field
    for resolution in limits["resolutions"]:
        assert client.post("/submit", json={"prompt": "a", "resolution": resolution}).is_success


@pytest.mark.parametrize(
    ("options", "lossy"), [({}, []), ({"fp8": True, "step_cache": 0.05}, ["fp8", "step_cache"])]
)
def test_it_is_said_what_makes_performance_less_exact(client_with, options, lossy):
    assert client_with(**options).get("/limits").json()["lossy"] == lossy


def test_the_defaults_are_those_that_requests_get(client):
    defaults = client.get("/limits").json()["defaults"]
    task_id = client.post("/submit", json={"prompt": "a"}).json()["task_id"]
    request = client.get(f"/status/{task_id}").json()["request"]
    assert {name: request[name] for name in defaults} == defaults
