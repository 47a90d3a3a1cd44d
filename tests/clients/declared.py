"""The model that declares what enable() has made: Alembic finds no difference, and the vector can be used in queries."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from models import Base, Message
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import Index, create_engine, func, select
from sqlalchemy.orm import Session, mapped_column

Message.embedding = mapped_column(VECTOR(256), deferred=True)
Index(
    "messages_embedding_idx",
    Message.__table__.c.embedding,
    postgresql_using="hnsw",
    postgresql_ops={"embedding": "vector_cosine_ops"},
)

engine = create_engine("postgresql+psycopg://")
with engine.connect() as connection:
    print("differences:", compare_metadata(MigrationContext.configure(connection), Base.metadata))
with Session(engine) as session:
    near = Message.embedding.cosine_distance(func.autoembed.embed("delivery problems"))
    print(session.scalars(select(Message).order_by(near).limit(1)).one().content)
