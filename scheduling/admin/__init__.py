"""The Django admin: what is there, looked up by key, and the acts that operators need."""

from . import activity, assignments, cluster, queues, tasks, users, windows  # noqa: F401 (they register)
