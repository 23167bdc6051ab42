"""Alembic's entry point: migrate over the connection that the store hands in."""

from alembic import context

from hidream_server.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=True
)
with context.begin_transaction():
    context.run_migrations()
