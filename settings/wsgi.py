"""The WSGI application, for granian or any other server."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.production")
# Many threads, each with a connection: a large page cache in each would add up.
os.environ.setdefault("SQLITE_CACHE_MIB", "2")

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
