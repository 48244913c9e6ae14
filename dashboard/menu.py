"""The sections of the dashboard, in the order of the menu."""

from typing import NamedTuple

from operators.roles import Permission


class Section(NamedTuple):
    """A section of the menu.

    name: as shown; url: the name of its address; path: what its addresses begin with; needs: a permission;
    also: what those of pages begin with that are reached from it.
    """

    name: str
    url: str
    path: str
    needs: Permission = Permission.VIEW
    also: tuple[str, ...] = ()


SECTIONS = (
    Section("Board", "board", "/dashboard/"),
    Section("Upload", "upload", "/dashboard/upload/", Permission.ACT),
    Section("Tasks", "tasks", "/dashboard/tasks/"),
    Section("Failures", "failures", "/dashboard/failures/"),
    Section(
        "Queues",
        "queues",
        "/dashboard/queues/",
        also=("/dashboard/targets/", "/dashboard/hours/", "/dashboard/calendar/"),
    ),
    Section(
        "History",
        "history_today",
        "/dashboard/history/",
        also=("/dashboard/windows/", "/dashboard/minutes/"),
    ),
    Section("Proof", "proof", "/dashboard/proof/"),
    Section("Alerts", "alerts", "/dashboard/alerts/"),
    Section("Activity", "activity", "/dashboard/activity/"),
)


def current(path: str) -> Section | None:
    """Return the section that an address belongs to: the longest path that fits."""
    sections = [section for section in SECTIONS if path.startswith((section.path, *section.also))]
    exact = [section for section in sections if section.url != "board" or path == section.path]
    return max(exact, key=lambda section: len(section.path), default=None)
