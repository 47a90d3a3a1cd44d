"""Insert, wait, search. Django with psycopg 3; a script beside the app "shop", by PGDATABASE, PGHOST, PGUSER, ..."""

import json
import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from django.db import connection  # noqa: E402
from shop.models import Message  # noqa: E402

Message.objects.bulk_create([
    Message(customer="ann", content="my parcel never arrived"),
    Message(customer="ann", content="please cancel my subscription"),
    Message(customer="ben", content="where is my package?"),
])

with connection.cursor() as cursor:
    cursor.execute("SELECT autoembed.wait('messages')")

# Instances of the model, with the similarity as one attribute more.
search = "SELECT id, content, similarity FROM similar_messages(%s, k => %s, filter => %s)"
for message in Message.objects.raw(search, ["delivery problems", 2, json.dumps({"customer": "ann"})]):
    print(f"{message.similarity:.2f} {message.content}")
