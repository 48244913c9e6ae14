from django.apps import AppConfig


class SchedulingConfig(AppConfig):
    """The domain: queues, tasks, windows, and what the clusters do with them."""

    name = "scheduling"
    verbose_name = "Scheduling"

    def ready(self) -> None:
        from scheduling import activity
        from scheduling.handlers import checks as handler_checks  # noqa: F401 (the checks register themselves)
        from scheduling.jobqueue import allow_list, checks  # noqa: F401

        from .store import frozen

        activity.connect()
        allow_list.connect()
        frozen.connect()
