"""django-q2's own tables, for those that show, count or prune their rows.

A row there names a callable, or holds pickles that run code when they are read: read no pickled column.
"""

import django_q.admin  # noqa: F401 (it registers its pages: first, so that they can be taken away)
from django.contrib.admin import AdminSite
from django_q.models import Failure, OrmQ, Schedule, Success, Task

__all__ = ["Failure", "FinishedJob", "QueuedJob", "Schedule", "Success", "close_stock_admin"]

QueuedJob = OrmQ
FinishedJob = Task


def close_stock_admin(site: AdminSite) -> None:
    """Take django-q2's own admin pages away: they add, edit and resubmit rows."""
    for model in (Failure, OrmQ, Schedule, Success):
        site.unregister(model)
