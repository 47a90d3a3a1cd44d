"""What this needs of a project's settings. What is not said of the database, psycopg takes from PGHOST, PGUSER, ..."""

import os

INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"]}}
