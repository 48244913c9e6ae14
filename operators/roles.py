"""What each role may do: one table, read by every interface."""

from django.conf import settings
from django.db import models


class Role(models.TextChoices):
    VIEWER = "viewer", "Viewer"
    OPERATOR = "operator", "Operator"
    ADMIN = "admin", "Admin"


class Permission(models.TextChoices):
    """What a person or a program can be allowed to do."""

    VIEW = "view", "see everything"
    ACT = "act", "submit, change and cancel lists, and run queues"
    ADMINISTER = (
        "administer",
        "change operators, tokens, alerts and webhooks, and see the cluster's own tables",
    )


PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: frozenset({Permission.VIEW}),
    Role.OPERATOR: frozenset({Permission.VIEW, Permission.ACT}),
    Role.ADMIN: frozenset({Permission.VIEW, Permission.ACT, Permission.ADMINISTER}),
}

# The Django admin asks for "app.verb_model". Apps not listed here, such as scheduling, are for operators.
_ADMIN_APPS = frozenset({"operators", "auth", "axes", "django_q", "sessions", "contenttypes", "admin"})
# Rows of the first two contain pickles, which run code when they are read; those of the third contain people's
# addresses and, now and then, a password that was typed as a user name.
_HIDDEN_APPS = frozenset({"django_q", "sessions", "axes"})


def needed_for_data() -> Permission:
    """Return the permission that is needed to see the data that travel with IDs: the setting DATA_VISIBLE_TO."""
    return {
        Role.VIEWER: Permission.VIEW,
        Role.OPERATOR: Permission.ACT,
        Role.ADMIN: Permission.ADMINISTER,
    }[Role(settings.DATA_VISIBLE_TO)]


def needed_for(permission: str) -> Permission:
    """Return the permission that one of Django's (`scheduling.change_task`) stands for."""
    app, _, codename = permission.partition(".")
    verb = codename.partition("_")[0]
    if app in _HIDDEN_APPS:
        return Permission.ADMINISTER
    if verb == "view":
        return Permission.VIEW
    return Permission.ADMINISTER if app in _ADMIN_APPS else Permission.ACT
