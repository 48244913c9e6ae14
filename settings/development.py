"""For development: `DJANGO_SETTINGS_MODULE=settings.development ./manage.py runserver`."""

import os

os.environ.setdefault("DEBUG", "1")
os.environ.setdefault("LOG_FORMAT", "text")

from settings.base import *  # noqa: F403
