-- What a server with schema 0001 leaves behind, with two tasks.
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
INSERT INTO alembic_version VALUES ('0001');
CREATE TABLE tasks (
    sequence INTEGER NOT NULL PRIMARY KEY, id VARCHAR(36) NOT NULL UNIQUE,
    state VARCHAR(16) NOT NULL, params JSON NOT NULL, cost FLOAT NOT NULL,
    created_at FLOAT NOT NULL, started_at FLOAT, completed_at FLOAT, attempt INTEGER NOT NULL,
    crashes INTEGER NOT NULL, owner VARCHAR(64), lease_until FLOAT, steps_done INTEGER NOT NULL,
    pictures JSON NOT NULL, error TEXT NOT NULL, timings JSON NOT NULL
);
CREATE INDEX tasks_by_state ON tasks (state, sequence);
CREATE INDEX tasks_by_end ON tasks (state, completed_at);
INSERT INTO tasks VALUES
    (1, 'first', 'queued', '{}', 1.0, 10.0, NULL, NULL, 0, 0, NULL, NULL, 0, '[]', '', '{}'),
    (2, 'second', 'queued', '{}', 1.0, 20.0, NULL, NULL, 0, 0, NULL, NULL, 0, '[]', '', '{}');
