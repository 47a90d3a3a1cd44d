"""The vectors themselves, where a program wants them: psycopg 3, without an adapter and with pgvector's."""

import os

import psycopg
from pgvector.psycopg import register_vector

with psycopg.connect(os.environ.get("DATABASE_URL", "")) as db:
    # As an array of numbers, which every client understands.
    numbers = db.execute("SELECT embedding::real[] FROM messages WHERE embedding IS NOT NULL LIMIT 1").fetchone()[0]
    print(len(numbers), "numbers")

    # pgvector's adapter reads and writes the type itself: less to send, and a value that can be a parameter.
    register_vector(db)
    vector = db.execute("SELECT autoembed.embed(%s)", ["delivery problems"]).fetchone()[0]
    nearest = "SELECT content, embedding <=> %(vector)s FROM messages WHERE embedding IS NOT NULL ORDER BY 2 LIMIT 2"
    for content, distance in db.execute(nearest, {"vector": vector}):
        print(f"{1 - distance:.2f} {content}")
