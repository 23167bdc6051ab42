"""Fills a task table quickly: tasks as the server writes them, then copies of their rows."""

import psycopg

from hidream_server.store.database import open_postgresql
from hidream_server.store.tasks import TaskStore
from hidream_server.task import TaskParams
from tests.postgresql import Postgresql
from tests.support import new_queue, params, submit

#: So many clients have tasks in a queue, in turn.
CLIENTS = 20
#: As many steps as Full's default, a prompt of a usual length.
TASK: TaskParams = params(
    prompt="A beautiful landscape with mountains and lakes at sunset, in the style of an old map",
    width=1024,
    height=1024,
    num_inference_steps=50,
)
_COPY = """
    INSERT INTO tasks (id, state, params, client, weight, max_running, digest, request_index, cost,
                       created_at, due, attempt, crashes, steps_done, pictures, picture_bytes,
                       error, timings, model, owner, lease_until)
    SELECT gen_random_uuid()::text, %(state)s::text, params, 'client ' || n %% %(clients)s::int,
           weight, max_running, digest, request_index, cost, created_at + n * 1e-3,
           due + n * 1e-3, %(attempt)s::int, crashes, 0, pictures, picture_bytes,
           error, timings, model, %(owner)s::text, %(lease)s::float
    FROM tasks, generate_series(1, %(count)s::int) AS n
    WHERE sequence = (SELECT min(sequence) FROM tasks)
"""


def filled(server: Postgresql, queued: int, running: int = 0) -> str:
    """Make a database with so many tasks; return its address."""
    url = server.new_database()
    database = open_postgresql(url)
    submit(new_queue(TaskStore(database)), [TASK], "client 0")
    database.dispose()
    waiting = {"state": "queued", "attempt": 0, "owner": None, "lease": None}
    held = {"state": "processing", "attempt": 1, "owner": "another", "lease": 1e12}
    with psycopg.connect(url, autocommit=True) as connection:
        for row, count in ((waiting, queued - 1), (held, running)):
            connection.execute(_COPY, {**row, "count": count, "clients": CLIENTS})
        connection.execute("VACUUM ANALYZE tasks")
    return url
