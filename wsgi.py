"""The entry for `gunicorn wsgi:app`."""

from aipipe.serving import application

app = application()
