"""Views that operators save: a page's filter, order and columns under a name. They are their owner's alone."""

from datetime import datetime

from django.db import transaction

from operators.actor import Actor
from operators.errors import InvalidView, TooManyViews
from operators.models import Operator, SavedView
from operators.signals import action_taken

MOST = 30
LONGEST_NAME, LONGEST_QUERY = 60, 2_000


def save(operator: Operator, *, page: str, name: str, query: str, by: Actor, at: datetime) -> SavedView:
    """Save `query` of `page` as `name`; another one of that name is replaced.

    page: the name of its address. Raises InvalidView and TooManyViews.
    """
    name = " ".join(name.split())
    if not 1 <= len(name) <= LONGEST_NAME or len(query) > LONGEST_QUERY or "\0" in name + query:
        raise InvalidView
    with transaction.atomic():
        Operator.objects.select_for_update().get(pk=operator.pk)
        saved = SavedView.objects.filter(operator=operator, page=page)
        if saved.exclude(name=name).count() >= MOST:
            raise TooManyViews
        view, _ = SavedView.objects.update_or_create(
            operator=operator, page=page, name=name, defaults={"query": query, "created_at": at}
        )
        details = {"page": page, "name": name}
        action_taken.send(SavedView, by=by, act="saved_view", target=operator, at=at, details=details)
    return view


def delete(view: SavedView, *, by: Actor, at: datetime) -> None:
    """Delete a view; its page stays as it is."""
    details = {"page": view.page, "name": view.name}
    with transaction.atomic():
        SavedView.objects.filter(pk=view.pk).delete()
        action_taken.send(SavedView, by=by, act="deleted_view", target=view.operator, at=at, details=details)
