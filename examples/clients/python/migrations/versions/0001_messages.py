"""Messages, and their vectors."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "messages",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("customer", sa.String, nullable=False),
        sa.Column("content", sa.String, nullable=False),
    )
    op.execute("SELECT autoembed.enable('messages', 'content')")


def downgrade():
    op.execute("SELECT autoembed.disable('messages', drop_column => true)")
    op.drop_table("messages")
