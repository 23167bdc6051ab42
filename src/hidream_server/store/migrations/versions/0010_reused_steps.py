"""How many steps of a task were taken without computing them.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("tasks", sa.Column("reused_steps", sa.Integer))


def downgrade() -> None:
    op.drop_column("tasks", "reused_steps")
