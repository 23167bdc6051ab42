"""Log lines: their form, where they go, how long they are kept."""

import asyncio
import json
import logging
import re
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hidream_server.ipc.reporting import ChannelHandler
from hidream_server.logs import (
    RUNS_KEPT,
    LineFormatter,
    current_task,
    end_startup_log,
    log_context,
    set_up_logs,
)

LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (?P<level>[A-Z]+) +"
    r"\[task=(?P<task>\S+) rank=(?P<rank>\S+)\] (?P<logger>\S+): (?P<text>.*)"
)

logger = logging.getLogger("hidream_server.test")


@pytest.fixture(autouse=True)
def loggers_as_before():
    """Take back what a test changes in the process's loggers."""
    root, own = logging.getLogger(), logging.getLogger("hidream_server")
    handlers, levels = list(root.handlers), (root.level, own.level)
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def run_files(folder):
    return sorted(folder.glob("hidream_api_*.log"))


def test_a_line_names_time_level_task_rank_and_logger(tmp_path, capsys):
    set_up_logs(tmp_path, "INFO", 2**20)
    with log_context(task="t-1", rank=3):
        logger.info("step %d", 7)
    [run_file] = run_files(tmp_path)
    for text in (run_file.read_text(), capsys.readouterr().err):
        match = LINE.fullmatch(text.strip())
        assert match is not None
        assert match.groupdict() == {
            "level": "INFO",
            "task": "t-1",
            "rank": "3",
            "logger": "hidream_server.test",
            "text": "step 7",
        }


def test_outside_any_context_task_and_rank_are_dashes():
    record = logging.LogRecord("n", logging.INFO, "", 0, "hello", None, None)
    assert "[task=- rank=-] n: hello" in LineFormatter().format(record)


def test_a_line_names_its_request_if_there_is_one_and_so_does_each_line_of_a_traceback(tmp_path):
    set_up_logs(tmp_path, "INFO", 2**20)
    with log_context(request="r.1"):
        try:
            raise RuntimeError("no\nway")
        except RuntimeError:
            logger.exception("failed")
    [run_file] = run_files(tmp_path)
    lines = run_file.read_text().splitlines()
    assert len(lines) > 4
    assert all("[task=- rank=- request=r.1] hidream_server.test: " in line for line in lines)


# JSON


def objects(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a log file, which must have one on each line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_logs_are_one_object_a_line_on_the_console_and_in_both_files(tmp_path, capsys):
    set_up_logs(tmp_path, "INFO", 2**20, "json")
    with log_context(task="t-1", request="r-1"):
        logger.warning("two\nlines of %s, 提示 and \ud800", "text")
    [run_file] = run_files(tmp_path)
    [found] = objects(run_file)
    assert [json.loads(capsys.readouterr().err)] == [found] == objects(tmp_path / "startup.log")
    logged_at = found.pop("time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", logged_at)
    assert abs(datetime.fromisoformat(logged_at).timestamp() - time.time()) < 60
    assert found == {
        "level": "WARNING",
        "logger": "hidream_server.test",
        "message": "two\nlines of text, 提示 and \ud800",
        "task": "t-1",
        "request": "r-1",
    }


def test_a_json_line_holds_its_exception_as_text(tmp_path):
    set_up_logs(tmp_path, "INFO", 2**20, "json")
    try:
        raise RuntimeError("no way")
    except RuntimeError:
        logger.exception("failed")
    [run_file] = run_files(tmp_path)
    [found] = objects(run_file)
    assert found["message"] == "failed"
    assert found["exception"].startswith("Traceback")
    assert found["exception"].endswith("RuntimeError: no way")


def test_a_line_of_a_rank_keeps_its_fields_in_json(tmp_path):
    sent = []
    rank = ChannelHandler(SimpleNamespace(send=sent.append), rank=3)
    record = logging.LogRecord("hidream_server.worker", 40, "", 0, "out of %s", ("room",), None)
    with log_context(task="t-1"):
        rank.handle(record)
    [line] = sent
    set_up_logs(tmp_path, "INFO", 2**20, "json")
    with log_context(task=line.task_id, rank=line.rank):
        logging.getLogger(line.logger).log(line.level, "%s", line.text)
    [run_file] = run_files(tmp_path)
    [found] = objects(run_file)
    assert found.pop("time")
    assert found == {
        "level": "ERROR",
        "logger": "hidream_server.worker",
        "message": "out of room",
        "task": "t-1",
        "rank": 3,
    }


def test_contexts_nest_and_end_even_when_an_error_leaves_them():
    assert current_task() is None
    with log_context(task="outer"):
        with suppress(RuntimeError), log_context(task="inner", rank=0):
            assert current_task() == "inner"
            raise RuntimeError
        assert current_task() == "outer"
        with log_context(rank=1):
            assert current_task() == "outer"
    assert current_task() is None


def test_two_coroutines_log_about_their_own_tasks():
    async def about(name: str, mine: asyncio.Event, other: asyncio.Event) -> str | None:
        with log_context(task=name):
            mine.set()
            await other.wait()
            return current_task()

    async def both() -> list[str | None]:
        first, second = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(about("a", first, second), about("b", second, first))

    assert asyncio.run(both()) == ["a", "b"]


def test_the_level_is_for_this_project_and_warnings_of_others_still_show(tmp_path):
    set_up_logs(tmp_path, "DEBUG", 2**20)
    logger.debug("own detail")
    logging.getLogger("somebody").info("foreign detail")
    logging.getLogger("somebody").warning("foreign warning")
    [run_file] = run_files(tmp_path)
    text = run_file.read_text()
    assert "own detail" in text
    assert "foreign warning" in text
    assert "foreign detail" not in text


def test_the_startup_log_ends_when_it_is_told_and_the_run_file_goes_on(tmp_path):
    startup = set_up_logs(tmp_path / "new" / "folder", "INFO", 2**20)
    logger.info("before")
    end_startup_log(startup)
    logger.info("after")
    folder = tmp_path / "new" / "folder"
    assert "before" in (folder / "startup.log").read_text()
    assert "after" not in (folder / "startup.log").read_text()
    [run_file] = run_files(folder)
    assert re.search("before.*\n.*after", run_file.read_text())


def test_a_file_that_reaches_its_size_is_rotated_and_two_old_parts_are_kept(tmp_path):
    set_up_logs(tmp_path, "INFO", file_bytes=500)
    for number in range(40):
        logger.info("line %d", number)
    [run_file] = run_files(tmp_path)
    parts = sorted(tmp_path.glob(run_file.name + "*"))
    assert [part.name.removeprefix(run_file.name) for part in parts] == ["", ".1", ".2"]
    assert all(part.stat().st_size <= 500 for part in parts)
    assert "line 39" in run_file.read_text()


def test_only_the_latest_runs_are_kept_with_all_their_parts(tmp_path):
    old = [tmp_path / f"hidream_api_20200101_0000{n:02}.log" for n in range(RUNS_KEPT + 2)]
    for path in old:
        path.touch()
        path.with_name(path.name + ".1").touch()
    (tmp_path / "notes.txt").touch()
    set_up_logs(tmp_path, "INFO", 2**20)
    kept = run_files(tmp_path)
    assert len(kept) == RUNS_KEPT
    assert kept[:-1] == old[3:]
    assert sorted(tmp_path.glob("*.log.1")) == [p.with_name(p.name + ".1") for p in old[3:]]
    assert (tmp_path / "notes.txt").exists()
