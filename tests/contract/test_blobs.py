"""What is kept under names is there whole, wherever it is kept: every store of bytes."""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from obstore.exceptions import PermissionDeniedError

from hidream_server.errors import ResultsUnavailableError
from hidream_server.store.blobs import Blobs
from hidream_server.store.bucket import open_bucket
from hidream_server.store.folder import Folder
from tests.s3 import S3


@dataclass(frozen=True)
class Kept:
    """A store, as two servers open it, and a way to let it fail."""

    blobs: Blobs
    #: The same, as another process would open it.
    other: Blobs
    fail: Callable[[], object]
    recover: Callable[[], object]
    error: type[Exception]


def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    right = os.fsync

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    return Kept(
        Folder(folder, durable=True),
        Folder(folder, durable=True),
        lambda: monkeypatch.setattr(os, "fsync", full),
        lambda: monkeypatch.setattr(os, "fsync", right),
        OSError,
    )


def in_bucket(s3: S3) -> Kept:
    url = s3.new_bucket() + "/a/prefix"
    blobs, other = (open_bucket(url).within("pictures") for _ in range(2))
    return Kept(blobs, other, s3.stop, s3.start, ResultsUnavailableError)


@pytest.fixture(params=["folder", "bucket"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    if request.param == "folder":
        return in_folder(tmp_path / "kept", monkeypatch)
    return in_bucket(request.getfixturevalue("s3"))


@pytest.fixture
def blobs(kept: Kept) -> Blobs:
    return kept.blobs


@pytest.mark.parametrize("data", [b"", b"\x00\xff\r\n", os.urandom(6_000_000)], ids=len)
def test_what_was_put_is_had_to_the_byte_by_all(kept: Kept, data: bytes):
    kept.blobs.put("a.png", data)
    assert kept.other.get("a.png") == data
    assert kept.other.open("a.png").read() == data
    assert kept.other.exists("a.png")


def test_putting_again_replaces_the_whole(blobs: Blobs):
    for data in (b"long old picture", b"new", b"new"):
        blobs.put("a", data)
    assert blobs.get("a") == b"new"
    assert list(blobs.names()) == ["a"]


def test_what_is_new_takes_no_place(kept: Kept):
    names = [f"{n}" for n in range(20)]

    def put(blobs: Blobs, mine: bytes) -> list[bytes | None]:
        for name in names:
            blobs.put_new(name, mine)
        return [kept.other.get(name) for name in names]

    with ThreadPoolExecutor(2) as pool:
        seen = list(pool.map(put, (kept.blobs, kept.other), (b"one", b"other")))
    assert seen[0] == seen[1]
    assert set(seen[0]) <= {b"one", b"other"}
    assert sorted(kept.blobs.names()) == sorted(names)


def test_what_is_not_there_is_none(blobs: Blobs):
    blobs.put("b", b"x")
    assert blobs.get("a") is None
    assert blobs.open("a") is None
    assert not blobs.exists("a")
    blobs.drop("a")
    assert list(blobs.names()) == ["b"]


def test_what_was_dropped_is_gone_for_all(kept: Kept):
    kept.blobs.put("a", b"x")
    kept.other.drop("a")
    kept.blobs.drop("a")
    assert kept.blobs.get("a") is None
    assert list(kept.blobs.names()) == []


@pytest.mark.parametrize(
    "name", ["HiDream I1 模型.cpu2.json", "a%2Fb", "~#?&+=", "a..b", "x" * 200]
)
def test_a_name_may_be_of_any_letters(blobs: Blobs, name: str):
    blobs.put(name, b"x")
    assert list(blobs.names()) == [name]
    assert blobs.get(name) == b"x"
    blobs.drop(name)
    assert list(blobs.names()) == []


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "/a", "a/b", "a/../../b", "..\\a", ".a.part", "a\x00"]
)
def test_no_name_leads_elsewhere(blobs: Blobs, name: str):
    for verb in (
        blobs.get,
        blobs.open,
        blobs.exists,
        blobs.drop,
        lambda name: blobs.put(name, b"x"),
        lambda name: blobs.put_new(name, b"x"),
    ):
        with pytest.raises(ValueError, match="is no name"):
            verb(name)
    assert list(blobs.names()) == []


def test_there_may_be_more_than_come_at_once(blobs: Blobs):
    names = [f"{n:04}" for n in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: blobs.put(name, b"x"), names))
    assert list(blobs.names()) == names


def test_a_put_that_fails_leaves_what_was_there_and_nothing_else(kept: Kept):
    kept.blobs.put("a", b"old")
    kept.fail()
    for name in ("a", "b"):
        with pytest.raises(kept.error):
            kept.blobs.put(name, b"new picture")
    kept.recover()
    assert kept.other.get("a") == b"old"
    assert list(kept.other.names()) == ["a"]


def test_of_two_who_put_the_same_one_is_there_whole_at_any_time(kept: Kept):
    versions = [bytes([n]) * 300_000 for n in range(8)]
    kept.blobs.put("a", versions[0])
    over = threading.Event()

    def put(version: bytes) -> None:
        blobs = kept.blobs if version[0] % 2 else kept.other
        for _ in range(5):
            # The server of these tests sometimes gives up where two put the same at once.
            with contextlib.suppress(ResultsUnavailableError):
                blobs.put("a", version)

    def watch() -> set[bytes | None]:
        seen = set()
        while not over.is_set():
            with contextlib.suppress(ResultsUnavailableError):
                seen.add(kept.other.get("a"))
        return seen

    with ThreadPoolExecutor(9) as pool:
        watching = pool.submit(watch)
        try:
            list(pool.map(put, versions))
        finally:
            over.set()
    assert watching.result() <= set(versions)
    assert list(kept.blobs.names()) == ["a"]


def test_attempts_that_are_put_at_once_do_not_meet(kept: Kept):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: kept.blobs.put(f"{n}", b"%d" % n), range(50)))
    assert {kept.other.get(f"{n}") for n in range(50)} == {b"%d" % n for n in range(50)}


# Object stores


@pytest.fixture
def bucket(s3: S3) -> Kept:
    return in_bucket(s3)


def test_a_store_that_is_away_is_said_once_and_that_it_is_back(bucket: Kept, caplog):
    blobs = bucket.blobs
    blobs.put("a", b"x")
    bucket.fail()
    for ask in (blobs.get, blobs.open, blobs.exists, blobs.drop, lambda _: blobs.names()):
        with pytest.raises(ResultsUnavailableError):
            ask("a")
    bucket.recover()
    blobs.put("a", b"x")
    levels = [record.levelno for record in caplog.records if record.name.endswith("store.bucket")]
    assert levels == [logging.ERROR, logging.WARNING]


def test_a_store_that_can_only_be_read_is_not_said_to_be_back(bucket: Kept, caplog, monkeypatch):
    blobs = bucket.blobs
    blobs.put("a", b"x")
    store = blobs._store

    class Full:
        def __getattr__(self, verb: str) -> object:
            return getattr(store, verb)

        def put(self, *_: object, **__: object) -> None:
            raise PermissionDeniedError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(blobs, "_store", Full())
        for _ in range(3):
            with pytest.raises(ResultsUnavailableError):
                blobs.put("b", b"x")
            assert blobs.get("a") == b"x"
    blobs.put("b", b"x")
    levels = [record.levelno for record in caplog.records if record.name.endswith("store.bucket")]
    assert levels == [logging.ERROR, logging.WARNING]


def test_one_tries_a_store_that_is_away_and_the_others_do_not_wait(bucket: Kept, monkeypatch):
    with contextlib.suppress(ResultsUnavailableError):
        bucket.fail()
        bucket.blobs.get("a")
    began, may_end = threading.Event(), threading.Event()

    class Slow:
        def get(self, _key: str) -> None:
            began.set()
            assert may_end.wait(30)
            raise OSError("nobody there")

    monkeypatch.setattr(bucket.blobs, "_store", Slow())

    async def main() -> None:
        trying = asyncio.create_task(asyncio.to_thread(bucket.blobs.get, "a"))
        await asyncio.to_thread(began.wait, 30)
        with pytest.raises(ResultsUnavailableError):
            bucket.blobs.get("b")
        may_end.set()
        with pytest.raises(ResultsUnavailableError):
            await trying

    asyncio.run(main())


def test_a_bucket_that_is_gone_is_no_picture_that_is_gone(s3: S3, caplog):
    blobs = open_bucket("s3://nobodys-bucket")
    for ask in (
        lambda name: blobs.put(name, b"x"),
        lambda name: blobs.put_new(name, b"x"),
        blobs.get,
        blobs.open,
        blobs.exists,
        blobs.drop,
    ):
        with pytest.raises(ResultsUnavailableError):
            ask("a")
    levels = [record.levelno for record in caplog.records if record.name.endswith("store.bucket")]
    assert levels == [logging.ERROR]


def test_what_is_kept_further_down_is_apart(s3: S3):
    root = open_bucket(s3.new_bucket())
    one, other = root.within("pictures"), root.within("pictures2")
    one.put("a", b"1")
    other.put("a", b"2")
    assert (one.get("a"), other.get("a")) == (b"1", b"2")
    assert list(one.names()) == ["a"]


def test_objects_under_no_plain_name_are_passed_over(s3: S3):
    url = s3.new_bucket()
    blobs = open_bucket(url).within("checkpoints")
    open_bucket(url + "/checkpoints/folder").put("a", b"x")
    open_bucket(url).within("checkpoints").put("a", b"x")
    assert list(blobs.names()) == ["a"]
