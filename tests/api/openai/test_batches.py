"""Files and batches of the official client, unmodified, on this server."""

import base64
import io
import json
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch
from PIL import Image

from hidream_server.api.app import create_app
from hidream_server.errors import ResultsUnavailableError
from hidream_server.keys import KeyLimits, Scope
from hidream_server.queue.bounds import Bounds
from hidream_server.store.folder import Folder
from hidream_server.store.reading import Wanted
from hidream_server.store.retention import EndedTasks, Excess
from hidream_server.task import TaskState
from tests.api.openai.conftest import served
from tests.support import new_outlook, new_queue, params, submit

ROOT = Path(__file__).parents[3]
ENDPOINT = "/v1/images/generations"
WANTED = {"endpoint": ENDPOINT, "completion_window": "24h"}


def a_line(custom_id: str, **fields: Any) -> dict[str, Any]:
    body = {"prompt": "a red circle", "size": "512x512"} | fields
    return {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body}


def jsonl(*lines: object) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def asked(sdk: openai.OpenAI, content: bytes, **more: Any) -> Batch:
    """Upload a file and ask for what is in it."""
    file = sdk.files.create(file=("lines.jsonl", content), purpose="batch")
    return sdk.batches.create(input_file_id=file.id, **WANTED, **more)


def ended(sdk: openai.OpenAI, batch: Batch) -> Batch:
    for _ in range(2000):
        batch = sdk.batches.retrieve(batch.id)
        if batch.status != "in_progress":
            return batch
        threading.Event().wait(0.005)
    raise AssertionError(batch)


def lines_of(sdk: openai.OpenAI, file_id: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sdk.files.content(file_id).text.splitlines()]


def names_of(sdk: openai.OpenAI, file_id: str) -> list[str]:
    return [line["custom_id"] for line in lines_of(sdk, file_id)]


# Files


def test_a_file_is_uploaded_read_and_deleted(sdk):
    content = jsonl(a_line("a", prompt="红色的圆"))
    file = sdk.files.create(file=("图片.jsonl", content), purpose="batch")
    assert (file.filename, file.bytes, file.purpose) == ("图片.jsonl", len(content), "batch")
    assert file.created_at > 1_700_000_000
    assert sdk.files.retrieve(file.id) == file
    assert sdk.files.content(file.id).read() == content
    deleted = sdk.files.delete(file.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (file.id, True, "file")
    for call in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            call(file.id)
        assert caught.value.code == "batch_file_not_found"


def test_files_are_listed_page_by_page_the_newest_first(sdk):
    made = [sdk.files.create(file=(f"{n}", b"x"), purpose="batch").id for n in range(5)]
    page = sdk.files.list(limit=2)
    assert [file.id for file in page.data] == made[:2:-1]
    assert page.has_more
    assert [file.id for file in sdk.files.list(limit=2)] == made[::-1]
    assert [file.id for file in sdk.files.list(limit=2, order="asc")] == made
    assert [file.id for file in sdk.files.list(purpose="fine-tune")] == []
    with pytest.raises(openai.NotFoundError):
        sdk.files.list(after="file-unheard-of")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({"file": ("x" * 256, b"x")}, "file"),
    ],
)
def test_400_what_is_no_file_for_a_batch(sdk, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.files.create(**({"file": ("a", b"x"), "purpose": "batch"} | fields))
    assert caught.value.param == param


@pytest.mark.parametrize("sent", [{"json": {"purpose": "batch"}}, {"data": {"purpose": "batch"}}])
def test_400_no_file_at_all(client, sent):
    response = client.post("/v1/files", **sent)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "file"


# Batches that come to something


def test_a_batch_from_its_file_to_its_pictures(sdk, painter, queue):
    content = jsonl(
        a_line("红", output_format="webp"),
        a_line("two", n=2, response_format="url", quality="low", extra="ignored"),
        a_line("three", prompt="a blue square"),
    )
    painter.works.clear()
    batch = asked(sdk, content, metadata={"for": "nobody"})
    assert batch.status == "in_progress"
    assert (batch.request_counts.total, batch.request_counts.completed) == (3, 0)
    assert batch.metadata == {"for": "nobody"}
    assert batch.expires_at - batch.created_at == 86400
    assert batch.output_file_id is None
    painter.works.set()
    batch = ended(sdk, batch)
    assert batch.status == "completed"
    assert batch.request_counts.completed == 3
    assert batch.completed_at >= batch.in_progress_at >= batch.created_at
    assert batch.error_file_id is None
    red, two, three = lines_of(sdk, batch.output_file_id)
    assert [line["custom_id"] for line in (red, two, three)] == ["红", "two", "three"]
    for line in (red, two, three):
        assert line["error"] is None
        assert line["response"]["status_code"] == 200
        assert queue.get(line["response"]["request_id"]).state is TaskState.COMPLETED
    image = base64.b64decode(red["response"]["body"]["data"][0]["b64_json"])
    assert Image.open(io.BytesIO(image)).format == "WEBP"
    assert len({image["url"] for image in two["response"]["body"]["data"]}) == 2
    assert two["response"]["body"]["quality"] == "low"
    about = sdk.files.retrieve(batch.output_file_id)
    assert about.bytes == len(sdk.files.content(batch.output_file_id).read())
    assert about.purpose == "batch_output"
    with pytest.raises(openai.BadRequestError, match="its tasks go"):
        sdk.files.delete(batch.output_file_id)


def test_the_documented_example_works(address, painter, tmp_path, monkeypatch):
    text = (ROOT / "docs" / "batches.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    example = example.replace("http://127.0.0.1:8088", address).replace("sleep(1)", "sleep(0.01)")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(example, names)
    names["client"].close()
    assert names["batch"].status == "completed"
    for name in ("circle", "mountains"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.size == (512, 512)


def test_what_failed_is_in_the_file_of_errors(sdk, painter):
    painter.failing = "the disk is full"
    batch = ended(sdk, asked(sdk, jsonl(a_line("a"), a_line("b"))))
    assert batch.status == "completed"
    assert batch.request_counts.failed == batch.request_counts.total == 2
    assert batch.output_file_id is None
    first, _ = lines_of(sdk, batch.error_file_id)
    assert first["custom_id"] == "a"
    assert first["response"]["status_code"] == 500
    error = first["response"]["body"]["error"]
    assert error["code"] == "task_failed"
    assert "the disk is full" in error["message"]


def test_what_was_deleted_and_what_expired_are_in_the_file_of_errors(sdk, painter, queue, database):
    batch = ended(sdk, asked(sdk, jsonl(a_line("a"), a_line("b"), a_line("c"))))
    deleted, expired, kept = (
        line["response"]["request_id"] for line in lines_of(sdk, batch.output_file_id)
    )
    queue.delete(deleted)
    EndedTasks(database).expire(Excess(made_before=queue.get(kept).completed_at, size_bytes=9), 1.0)
    assert queue.get(expired).expired_at is not None
    batch = sdk.batches.retrieve(batch.id)
    assert batch.request_counts.to_dict() == {"total": 3, "completed": 2, "failed": 1}
    assert names_of(sdk, batch.output_file_id) == ["c"]
    codes = {
        line["custom_id"]: line["response"]["body"]["error"]["code"]
        for line in lines_of(sdk, batch.error_file_id)
    }
    assert codes == {"a": "task_not_found", "b": "picture_expired"}


def test_while_the_pictures_cannot_be_had_nothing_wrong_is_said_of_them(sdk, painter, monkeypatch):
    batch = ended(sdk, asked(sdk, jsonl(a_line("a"), a_line("b"))))

    def away(*_: object) -> None:
        raise ResultsUnavailableError

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "exists", away)
        for end in ("output", "errors"):
            with pytest.raises(openai.InternalServerError, match="does not answer") as error:
                sdk.files.content(batch.id.replace("batch_", "file-") + f"-{end}")
            assert error.value.status_code == 503
    assert names_of(sdk, batch.output_file_id) == ["a", "b"]


def test_before_its_end_a_batch_has_no_files(sdk, queue, painter):
    painter.works.clear()
    batch = asked(sdk, jsonl(*(a_line(name) for name in "abc")))
    failed, painted = queue.claim("group", 2)
    queue.fail((failed.id, 1), "no")
    painter.paint(painted)
    batch = sdk.batches.retrieve(batch.id)
    assert batch.status == "in_progress"
    assert batch.request_counts.to_dict() == {"total": 3, "completed": 1, "failed": 1}
    assert (batch.output_file_id, batch.error_file_id) == (None, None)
    for end in ("output", "errors"):
        with pytest.raises(openai.NotFoundError, match="before the batch has ended"):
            sdk.files.content(batch.id.replace("batch_", "file-") + f"-{end}")


def test_more_lines_than_are_looked_up_at_once_come_in_their_order(sdk, queue):
    batch = asked(sdk, jsonl(*(a_line(str(n)) for n in range(230))))
    for task in queue.claim("group", 230):
        assert queue.fail((task.id, 1), "no")
    batch = sdk.batches.retrieve(batch.id)
    assert names_of(sdk, batch.error_file_id) == [str(n) for n in range(230)]


def test_batches_are_listed_page_by_page_the_newest_first(sdk):
    file = sdk.files.create(file=("a", jsonl(a_line("a"))), purpose="batch")
    made = [sdk.batches.create(input_file_id=file.id, **WANTED).id for _ in range(3)]
    assert [batch.id for batch in sdk.batches.list(limit=2)] == made[::-1]
    assert sdk.batches.list(limit=2).has_more


# Batches that come to nothing


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b"[" * 200_000, "invalid_json", None),
        (b'{"custom_id": "\xff"}', "invalid_utf8", None),
        (b"[]", "invalid_request", "body"),
        (jsonl(a_line("ok")), "duplicate_custom_id", "custom_id"),
        (jsonl(a_line("")), "invalid_request", "custom_id"),
        (jsonl(a_line("x" * 513)), "invalid_request", "custom_id"),
        (jsonl(a_line("\ud800")), "invalid_request", "custom_id"),
        (jsonl(a_line("a") | {"method": "GET"}), "invalid_request", "method"),
        (jsonl(a_line("a") | {"url": "/v1/embeddings"}), "invalid_request", "url"),
        (jsonl(a_line("a") | {"body": None}), "invalid_request", "body"),
        (jsonl(a_line("a", stream=True)), "invalid_request", "body.stream"),
        (jsonl(a_line("a", prompt=" ")), "invalid_request", "body.prompt"),
        (jsonl(a_line("a", prompt=7)), "invalid_request", "body.prompt"),
        (jsonl(a_line("a", size="500x500")), "invalid_request", "body.size"),
        (jsonl(a_line("a", n=11)), "invalid_request", "body.n"),
        (jsonl(a_line("a", output_compression=3)), "invalid_request", "body.output_compression"),
        (jsonl(a_line("a", model="sora")), "model_not_found", "body.model"),
    ],
)
def test_a_wrong_line_fails_the_batch_and_is_named(sdk, queue, line, code, param):
    content = jsonl(a_line("ok")) + b"\n" + line.strip() + b"\n" + jsonl(a_line("also ok"))
    batch = asked(sdk, content)
    assert batch.status == "failed"
    assert batch.failed_at == batch.created_at
    [error] = batch.errors.data
    assert (error.line, error.code, error.param) == (3, code, param)
    assert error.message
    assert batch.request_counts.total == 0
    assert (batch.output_file_id, batch.error_file_id) == (None, None)
    assert queue.counts() == dict.fromkeys(TaskState, 0)
    assert sdk.batches.retrieve(batch.id) == batch


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_a_file_without_requests_fails_the_batch(sdk, content):
    [error] = asked(sdk, content).errors.data
    assert (error.line, error.code) == (1, "empty_file")


def test_every_wrong_line_is_named_up_to_a_hundred(sdk):
    batch = asked(sdk, jsonl(a_line("ok"), *(a_line(str(n), n=0) for n in range(150))))
    assert [error.line for error in batch.errors.data] == list(range(2, 102))


def test_a_file_as_other_systems_write_it(sdk, queue):
    lines = [json.dumps(a_line(name)).encode() for name in "ab"]
    batch = asked(sdk, b"\xef\xbb\xbf" + b"\r\n".join(lines))
    assert batch.request_counts.total == 2
    assert queue.counts()[TaskState.QUEUED] == 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
    ],
)
def test_400_what_cannot_be_asked_of_a_batch(sdk, fields, param):
    file = sdk.files.create(file=("a", jsonl(a_line("a"))), purpose="batch")
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.batches.create(**({"input_file_id": file.id} | WANTED | fields))
    assert caught.value.param == param


def test_404_a_batch_of_no_file_and_no_batch(sdk):
    with pytest.raises(openai.NotFoundError):
        sdk.batches.create(input_file_id="file-1", **WANTED)
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.batches.retrieve("batch_1")
    assert caught.value.code == "batch_not_found"


# Cancelling


def test_a_cancelled_batch_keeps_what_was_painted(sdk, queue, services, painter):
    painter.works.clear()
    batch = asked(sdk, jsonl(a_line("a"), a_line("b")))
    [task] = queue.claim("group", 1)
    painter.paint(task)
    batch = sdk.batches.cancel(batch.id)
    assert batch.status == "cancelled"
    assert batch.cancelled_at >= batch.created_at
    assert batch.completed_at is None
    assert sdk.batches.cancel(batch.id) == batch
    assert queue.counts()[TaskState.CANCELLED] == 1
    assert names_of(sdk, batch.output_file_id) == ["a"]
    [cancelled] = lines_of(sdk, batch.error_file_id)
    assert cancelled["response"]["body"]["error"]["code"] == "task_cancelled"


def test_those_who_run_tasks_are_told_of_a_cancelled_batch(sdk, queue):
    told: list[str] = []
    queue.on_end(told.append)
    batch = asked(sdk, jsonl(a_line("a"), a_line("b")))
    tasks = queue.claim("group", 1)
    sdk.batches.cancel(batch.id)
    assert len(told) == 2
    assert tasks[0].id in told


def test_409_a_batch_that_has_ended_is_not_cancelled(sdk, painter):
    batch = ended(sdk, asked(sdk, jsonl(a_line("a"))))
    with pytest.raises(openai.ConflictError) as caught:
        sdk.batches.cancel(batch.id)
    assert caught.value.code == "batch_ended"
    assert sdk.batches.retrieve(batch.id).status == "completed"


# Bounds


def test_429_while_there_is_no_room_for_all_and_later_there_is(services, store, painter):
    painter.works.clear()
    outlook = new_outlook()
    outlook.know({64: {1: 0.01, 2: 0.02}}, {64: 0.1})
    queue = new_queue(store, outlook, bounds=Bounds(queued=2))
    submit(queue, [params()])
    content = jsonl(a_line("a"), a_line("b"))
    with (
        served(create_app(replace(services, queue=queue))) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as impatient,
        openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=5) as patient,
    ):
        with pytest.raises(openai.RateLimitError) as caught:
            asked(impatient, content)
        assert int(caught.value.response.headers["retry-after"]) >= 1
        assert list(impatient.batches.list()) == []
        assert queue.counts()[TaskState.QUEUED] == 1
        timer = threading.Timer(0.3, painter.works.set)
        timer.start()
        batch = asked(patient, content)
        timer.join()
        assert ended(patient, batch).request_counts.completed == 2


def test_400_more_than_the_queue_ever_takes(keys, new_sdk):
    _, text = keys.create("anna", Scope.GENERATE, KeyLimits(max_queued=2), 1.0)
    sdk = new_sdk(text)
    with pytest.raises(openai.BadRequestError) as caught:
        asked(sdk, jsonl(*(a_line(name) for name in "abc")))
    assert caught.value.param == "input_file_id"
    assert "1 to 2 requests" in caught.value.message
    assert asked(sdk, jsonl(a_line("a"), a_line("b"))).status == "in_progress"


def test_a_batch_may_have_more_lines_than_a_batch_submit(sdk, services, queue):
    count = services.settings.max_batch_requests + 1
    batch = asked(sdk, jsonl(*(a_line(str(n)) for n in range(count))))
    assert batch.request_counts.total == queue.counts()[TaskState.QUEUED] == count


# Keys


def test_the_tasks_of_a_batch_are_its_keys(keys, new_sdk, painter, queue):
    anna, text = keys.create("anna", Scope.GENERATE, KeyLimits(), 1.0)
    _, other = keys.create("ben", Scope.GENERATE, KeyLimits(), 1.0)
    _, root = keys.create("root", Scope.ADMIN, KeyLimits(), 1.0)
    mine, others, admins = new_sdk(text), new_sdk(other), new_sdk(root)
    batch = ended(mine, asked(mine, jsonl(a_line("a", response_format="url"))))
    assert [task.client for task in queue.page(Wanted(), None, 9)[0]] == [anna.id]
    for call in (others.files.content, others.files.retrieve):
        with pytest.raises(openai.NotFoundError):
            call(batch.output_file_id)
    with pytest.raises(openai.NotFoundError):
        others.batches.create(input_file_id=batch.input_file_id, **WANTED)
    [line] = lines_of(mine, batch.output_file_id)
    assert "signature=" in line["response"]["body"]["data"][0]["url"]
    assert names_of(admins, batch.output_file_id) == ["a"]


def test_a_batch_that_is_asked_for_again_by_its_name_is_the_same(sdk, queue):
    file = sdk.files.create(file=("a", jsonl(a_line("a"))), purpose="batch")
    wanted = {"input_file_id": file.id, "extra_headers": {"Idempotency-Key": "mine"}} | WANTED
    first = sdk.batches.create(**wanted)
    sdk.files.delete(file.id)
    assert sdk.batches.create(**wanted) == first
    assert queue.counts()[TaskState.QUEUED] == 1
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.batches.create(**wanted, metadata={"a": "b"})
    assert caught.value.code == "request_reused"


def test_a_batch_that_is_asked_for_twice_at_once_is_one(sdk, services, queue, monkeypatch):
    """Both look for an earlier one before either is kept."""
    monkeypatch.setattr(services.batches, "find", lambda _: None)
    file = sdk.files.create(file=("a", jsonl(a_line("a"))), purpose="batch")
    wanted = {"input_file_id": file.id, "extra_headers": {"Idempotency-Key": "mine"}} | WANTED
    for _ in range(2):
        with pytest.raises(openai.NotFoundError):
            sdk.batches.create(**wanted)
    assert queue.counts()[TaskState.QUEUED] == 1
    assert len(list(sdk.batches.list())) == 1


def test_two_keys_may_use_the_same_name(keys, new_sdk):
    texts = [keys.create(name, Scope.GENERATE, KeyLimits(), 1.0)[1] for name in ("anna", "ben")]
    named = {"extra_headers": {"Idempotency-Key": "mine"}}
    ids = {asked(new_sdk(text), jsonl(a_line("a")), **named).id for text in texts}
    assert len(ids) == 2


def test_no_idempotency_key_can_name_the_tasks_of_a_batch(client, sdk):
    batch = asked(sdk, jsonl(a_line("a")))
    headers = {"Idempotency-Key": f"§{batch.id}".encode()}
    assert client.post("/submit", json={"prompt": "a"}, headers=headers).status_code == 422
