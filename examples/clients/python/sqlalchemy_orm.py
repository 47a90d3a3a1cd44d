"""Insert, wait, search. SQLAlchemy 2; by DATABASE_URL (postgresql+psycopg://...), or by PGHOST, PGUSER, ..."""

import os

from models import Message
from sqlalchemy import cast, create_engine, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

engine = create_engine(os.environ.get("DATABASE_URL", "postgresql+psycopg://"))
with Session(engine) as session:
    session.add_all([
        Message(customer="ann", content="my parcel never arrived"),
        Message(customer="ann", content="please cancel my subscription"),
        Message(customer="ben", content="where is my package?"),
    ])
    session.commit()  # before that there is nothing to wait for
    session.scalar(select(func.autoembed.wait("messages")))

    # A function that gives rows, joined to the mapped class. Its arguments: query, k, min_similarity, filter.
    search = func.similar_messages("delivery problems", 2, None, cast({"customer": "ann"}, JSONB))
    found = search.table_valued("id", "similarity")
    nearest = select(Message, found.c.similarity).join(found, found.c.id == Message.id)
    for message, similarity in session.execute(nearest.order_by(found.c.similarity.desc())):
        print(f"{similarity:.2f} {message.content}")
