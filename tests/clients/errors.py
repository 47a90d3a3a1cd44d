"""Where each client for Python has the SQLSTATE and the hint of an error, as docs/clients.md says."""

import django
import psycopg
import sqlalchemy

django.setup()
from django.db import DatabaseError, connection  # noqa: E402

SEARCH = """SELECT * FROM similar_messages('x', filter => '{"nobody": 1}')"""

try:
    psycopg.connect("").execute(SEARCH)
except psycopg.Error as e:
    print("psycopg", e.sqlstate, e.diag.message_primary, e.diag.message_hint, sep="|")
try:
    # A colon would begin a parameter in text().
    sqlalchemy.create_engine("postgresql+psycopg://").connect().exec_driver_sql(SEARCH)
except sqlalchemy.exc.DBAPIError as e:
    print("SQLAlchemy", e.orig.sqlstate, e.orig.diag.message_primary, e.orig.diag.message_hint, sep="|")
try:
    connection.cursor().execute(SEARCH)
except DatabaseError as e:
    print("Django", e.__cause__.sqlstate, e.__cause__.diag.message_primary, e.__cause__.diag.message_hint, sep="|")
