"""The Django admin: what is there, looked up by key, and the operations that operators need."""

from . import activity, assignments, cluster, queues, sign_ins, targets, tasks, users, windows  # noqa: F401
