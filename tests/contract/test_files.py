"""What every database does with files."""

import pytest

from hidream_server.errors import FilesFullError
from hidream_server.store.database import Database
from hidream_server.store.files import FileStore, StoredFile
from hidream_server.store.paging import Page


@pytest.fixture
def files(database: Database) -> FileStore:
    return FileStore(database)


def a_file(name: str, created_at: float = 1.0, client: str = "anna") -> StoredFile:
    return StoredFile(
        id=f"file-{name}",
        client=client,
        filename="图片.jsonl",
        purpose="batch",
        bytes=3,
        created_at=created_at,
    )


def ids(found: tuple[list[StoredFile], bool]) -> tuple[list[str], bool]:
    return [file.id.removeprefix("file-") for file in found[0]], found[1]


def test_a_file_is_found_as_it_was_kept(files: FileStore):
    content = bytes(range(256)) * 4096
    files.add(a_file("a"), content)
    assert files.find("file-a") == a_file("a")
    assert files.content("file-a") == content
    assert files.find("file-b") is None
    assert files.content("file-b") is None


def test_a_client_has_room_for_so_many_bytes_and_others_have_their_own(files: FileStore):
    files.add(a_file("a"), b"123", 5)
    with pytest.raises(FilesFullError):
        files.add(a_file("b"), b"123", 5)
    files.add(a_file("c", client="ben"), b"123", 5)
    assert files.delete("file-a")
    files.add(a_file("b"), b"123", 5)


@pytest.mark.parametrize("name", ["\0", "\ud800", "图"])
def test_what_is_no_id_is_no_files(files: FileStore, name: str):
    assert files.find(name) is None


def test_an_empty_file_is_a_file(files: FileStore):
    files.add(a_file("a"), b"")
    assert files.content("file-a") == b""


def test_pages_are_turned_by_the_last_id_in_both_directions(files: FileStore):
    # Two were made at the same time.
    for name, at in (("c", 1.0), ("a", 2.0), ("d", 2.0), ("b", 3.0)):
        files.add(a_file(name, at), b"x")
    assert ids(files.page(Page(count=4))) == (["b", "d", "a", "c"], False)
    assert ids(files.page(Page(count=2))) == (["b", "d"], True)
    assert ids(files.page(Page(count=2, after="file-d"))) == (["a", "c"], False)
    assert ids(files.page(Page(count=3, oldest_first=True))) == (["c", "a", "d"], True)
    page = Page(count=3, oldest_first=True, after="file-a")
    assert ids(files.page(page)) == (["d", "b"], False)


def test_a_page_may_be_of_one_client_alone(files: FileStore):
    files.add(a_file("a"), b"x")
    files.add(a_file("b", client="ben"), b"x")
    assert ids(files.page(Page(count=5, client="ben"))) == (["b"], False)


def test_what_is_deleted_is_gone(files: FileStore):
    files.add(a_file("a"), b"x")
    assert files.delete("file-a")
    assert not files.delete("file-a")
    assert files.find("file-a") is None


def test_old_files_are_forgotten(files: FileStore):
    for name, at in (("a", 1.0), ("b", 5.0)):
        files.add(a_file(name, at), b"x")
    assert files.forget(5.0) == 1
    assert ids(files.page(Page(count=5))) == (["b"], False)
