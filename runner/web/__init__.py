"""The web server's application: connections are served by one event loop, pages by a few threads.

A request's body is received by the event loop and handed to Django complete, and a response is written by the
event loop too. So a slow or malicious client occupies a socket and some kilobytes, but never a thread.

    application  one request from its first byte to its last
    bodies       receives a body: in memory while short, in a nameless file when long, within a deadline
    pages        a request and a response as Django sees them
    threads      the threads in which Django runs, in lanes
    waiting      requests that wait for outcomes, without a thread
    limits       how many requests a client may send
    sockets      closes connections whose readers don't read
"""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.production")
# The runner has done so already; a server that is started without it hasn't.
django.setup()
