"""What each role may do: one table, read by every face."""

from django.db import models


class Role(models.TextChoices):
    VIEWER = "viewer", "Viewer"
    OPERATOR = "operator", "Operator"
    ADMIN = "admin", "Admin"


class May(models.TextChoices):
    """The kinds of act."""

    VIEW = "view", "see everything"
    ACT = "act", "submit, change and cancel lists, and run queues"
    ADMINISTER = "administer", "change operators and tokens, and see the cluster's own tables"


MAY: dict[Role, frozenset[May]] = {
    Role.VIEWER: frozenset({May.VIEW}),
    Role.OPERATOR: frozenset({May.VIEW, May.ACT}),
    Role.ADMIN: frozenset({May.VIEW, May.ACT, May.ADMINISTER}),
}

# The Django admin asks by "app.verb_model". Not listed: scheduling and all else that is ours to act on.
_APPS_OF_ADMINS = frozenset({"operators", "auth", "axes", "django_q", "sessions", "contenttypes", "admin"})
# Rows of the first two hold pickles, which run code when they are read; those of the third the addresses of
# people, and now and then a password that was typed as a name.
_HIDDEN_APPS = frozenset({"django_q", "sessions", "axes"})


def needed_for(permission: str) -> May:
    """The kind of act that a permission of Django's (`scheduling.change_task`) stands for."""
    app, _, codename = permission.partition(".")
    verb = codename.partition("_")[0]
    if app in _HIDDEN_APPS:
        return May.ADMINISTER
    if verb == "view":
        return May.VIEW
    return May.ADMINISTER if app in _APPS_OF_ADMINS else May.ACT
