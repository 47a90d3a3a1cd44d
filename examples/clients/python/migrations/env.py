"""Alembic's environment; by DATABASE_URL (postgresql+psycopg://...), or by PGHOST, PGUSER, ..."""

import os

import pgvector.sqlalchemy  # noqa: F401  (tells SQLAlchemy what the type vector is)
from alembic import context
from models import Base
from sqlalchemy import create_engine


def include_object(_object, name, _type, reflected, compare_to):
    """False for what enable() has made: without this, autogenerate drops it, since it is in no model."""
    return not (reflected and compare_to is None and name.startswith(("embedding", "messages_embedding")))


engine = create_engine(os.environ.get("DATABASE_URL", "postgresql+psycopg://"))
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, include_object=include_object)
    with context.begin_transaction():
        context.run_migrations()
