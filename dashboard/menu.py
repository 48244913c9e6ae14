"""The sections of the dashboard, in the order of the menu."""

from typing import NamedTuple

from operators.roles import Permission


class Section(NamedTuple):
    """A section of the menu.

    name: as shown; url: the name of its address; path: what all of its addresses begin with; needs: a
    permission.
    """

    name: str
    url: str
    path: str
    needs: Permission = Permission.VIEW


SECTIONS = (
    Section("Board", "board", "/dashboard/"),
    Section("Upload", "upload", "/dashboard/upload/", Permission.ACT),
    Section("Tasks", "tasks", "/dashboard/tasks/"),
    Section("Failures", "failures", "/dashboard/failures/"),
    Section("Queues", "queues", "/dashboard/queues/"),
    Section("History", "history_today", "/dashboard/history/"),
    Section("Proof", "proof", "/dashboard/proof/"),
    Section("Activity", "activity", "/dashboard/activity/"),
)


def current(path: str) -> Section | None:
    """Return the section that an address belongs to: the longest path that fits."""
    found = [section for section in SECTIONS if path.startswith(section.path)]
    exact = [section for section in found if section.url != "board" or path == section.path]
    return max(exact, key=lambda section: len(section.path), default=None)
