from django.apps import AppConfig


class SchedulingConfig(AppConfig):
    """The domain: queues, tasks, windows, and what the clusters do with them."""

    name = "scheduling"
    verbose_name = "Scheduling"
