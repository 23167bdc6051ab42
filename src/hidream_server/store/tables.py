"""The tables, as the newest migration leaves them."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

tasks = Table(
    "tasks",
    metadata,
    #: Order of submission.
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("params", JSON, nullable=False),
    #: The name of the model that it is for; empty: any.
    Column("model", String(128), nullable=False, default=""),
    #: Whom it belongs to, for fair shares.
    Column("client", String(64), nullable=False, default=""),
    Column("weight", Float, nullable=False, default=1.0),
    #: So many tasks of its client may run at once; 0: no bound.
    Column("max_running", Integer, nullable=False, default=0),
    #: Of the body that asked for it; with the client's own name for the request, and which of its
    #: tasks it is, a submission that comes again is known by it.
    Column("digest", String(64), nullable=False, default=""),
    Column("request_key", String(255)),
    Column("request_index", Integer, nullable=False, default=0),
    #: Expected work in rows × steps × megapixels.
    Column("cost", Float, nullable=False),
    #: Times are seconds since the epoch, UTC.
    Column("created_at", Float, nullable=False),
    #: The order of the queue.
    Column("due", Float, nullable=False, default=0.0),
    Column("started_at", Float),
    Column("completed_at", Float),
    Column("attempt", Integer, nullable=False, default=0),
    Column("crashes", Integer, nullable=False, default=0),
    #: The worker group that holds the lease, and until when.
    Column("owner", String(64)),
    Column("lease_until", Float),
    Column("steps_done", Integer, nullable=False, default=0),
    Column("pictures", JSON, nullable=False, default=list),
    Column("picture_bytes", BigInteger, nullable=False, default=0),
    #: When its pictures were deleted.
    Column("expired_at", Float),
    Column("error", Text, nullable=False, default=""),
    Column("timings", JSON, nullable=False, default=dict),
    #: Steps that were not computed; NULL where every step had to be, or before the end.
    Column("reused_steps", Integer),
    #: Who is told of its end.
    Column("webhook_url", Text),
    Index("tasks_by_state", "state", "due", "sequence"),
    Index("tasks_by_end", "state", "completed_at"),
    Index("tasks_by_request", "client", "request_key", "request_index", unique=True),
    Index("tasks_by_client", "client", "created_at"),
)

#: What happened to tasks.
history = Table(
    "history",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("task_id", String(36), nullable=False),
    Column("client", String(64), nullable=False),
    Column("what", String(16), nullable=False),
    Column("at", Float, nullable=False),
    #: An attempt, a step of how many, a reason.
    Column("about", JSON, nullable=False),
    Index("history_by_task", "task_id", "number"),
    Index("history_by_client", "client", "at"),
    # Numbers of what was deleted are not given again.
    sqlite_autoincrement=True,
)

#: Messages to receivers: what happened, which is kept for as long as it takes to tell it.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("task_id", String(36), nullable=False),
    Column("client", String(64), nullable=False),
    Column("url", Text, nullable=False),
    #: The state in which the task ended.
    Column("what", String(16), nullable=False),
    Column("facts", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("failures", Integer, nullable=False),
    #: Nobody tries it before; while somebody does, until when others leave it alone.
    Column("next_try_at", Float, nullable=False),
    #: When it was delivered, or given up; that is told by the last error.
    Column("done_at", Float),
    Column("last_error", Text),
    Index("deliveries_by_time", "done_at", "next_try_at"),
)

#: Keys of those who may use the service.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(64), nullable=False),
    #: Of the key's text, which is not kept.
    Column("digest", String(64), nullable=False, unique=True),
    Column("scope", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
    #: Of each limit nothing: what the server's settings say.
    Column("max_queued", Integer),
    Column("max_running", Integer),
    Column("max_images_per_minute", Integer),
    Column("weight", Float, nullable=False),
    Column("priority", String(16), nullable=False),
)

#: What only servers of this database know.
secrets = Table(
    "secrets",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", String(64), nullable=False),
)

#: What OpenAI's clients upload.
files = Table(
    "files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("client", String(64), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index("files_by_client", "client", "created_at"),
)

#: What OpenAI's clients ask for by a file; the tasks of one have a request key that is its id's.
batches = Table(
    "batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("client", String(64), nullable=False),
    Column("endpoint", String(64), nullable=False),
    Column("input_file_id", String(64), nullable=False),
    Column("completion_window", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("cancelled_at", Float),
    Column("metadata", JSON, nullable=False),
    #: How many lines there are; and of each, in order, its client's name for it and its body.
    Column("total", Integer, nullable=False),
    Column("lines", JSON, nullable=False),
    #: Why nothing came of it.
    Column("errors", JSON, nullable=False),
    Index("batches_by_client", "client", "created_at"),
)

#: Worker groups of all machines.
worker_groups = Table(
    "worker_groups",
    metadata,
    Column("id", String(96), primary_key=True),
    Column("machine", String(255), nullable=False),
    Column("version", String(32), nullable=False),
    Column("model", JSON, nullable=False),
    Column("devices", JSON, nullable=False),
    Column("health", JSON, nullable=False),
    Column("pace", JSON, nullable=False),
    Column("tasks", JSON, nullable=False),
    Column("joined_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
)
