from django.apps import AppConfig


class SchedulingConfig(AppConfig):
    """The domain: queues, tasks, windows, and what the clusters do with them."""

    name = "scheduling"
    verbose_name = "Scheduling"

    def ready(self) -> None:
        from . import activity, checks, guards  # noqa: F401 (the checks register themselves)
        from .store import frozen

        activity.connect()
        guards.connect()
        frozen.connect()
