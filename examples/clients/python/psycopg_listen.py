"""Insert, be told when the vectors are there, search. psycopg 3; by DATABASE_URL, or by PGHOST, PGUSER, ..."""

import os

import psycopg
from psycopg.types.json import Jsonb

MESSAGES = [
    ("ann", "my parcel never arrived"),
    ("ann", "please cancel my subscription"),
    ("ben", "where is my package?"),
]
INSERT = "INSERT INTO messages (customer, content) VALUES (%s, %s) RETURNING id"
UNDER_WAY = """
    SELECT count(*) FROM unnest(%s::bigint[]) AS id, autoembed.job_status('messages', id::text) AS job
    WHERE job.state IN ('waiting', 'in_flight')
"""
SEARCH = "SELECT content, similarity FROM similar_messages(%s, k => %s, filter => %s)"

with psycopg.connect(os.environ.get("DATABASE_URL", ""), autocommit=True) as db:
    db.execute("LISTEN autoembed")  # before the INSERT, so that no notification is missed
    with db.transaction():
        ids = [db.execute(INSERT, message).fetchone()[0] for message in MESSAGES]

    # A notification tells of a batch, not of rows: so each time these are looked at. After ten seconds without
    # one they are looked at as well, since a notification may be left out.
    while db.execute(UNDER_WAY, [ids]).fetchone()[0] > 0:
        for _ in db.notifies(timeout=10, stop_after=1):
            pass

    for content, similarity in db.execute(SEARCH, ["delivery problems", 2, Jsonb({"customer": "ann"})]):
        print(f"{similarity:.2f} {content}")
