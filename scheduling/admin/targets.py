"""Targets: where webhooks go, with their budgets and what blocks them. Budgets are changed on the dashboard."""

from django.contrib import admin
from django.http import HttpRequest

from scheduling import models, store

from .base import ByKey, ReadOnly, Rows, on_dashboard


@admin.register(models.Target)
class TargetAdmin(ReadOnly, ByKey):
    list_display = ("origin", "rpm", "queues_", "blocked_until", "opened_at")
    search_help_text = "How the target begins, such as https://api.vendor.example."
    fields = (
        "origin", "rpm", "hours", "shared_hours", "quotas", "queues_",
        "blocked_until", "block_reason", "failures_count", "opened_at", "probe_at", "last_error",
    )  # fmt: skip
    readonly_fields = ("queues_",)

    def get_queryset(self, request: HttpRequest) -> Rows:
        return super().get_queryset(request).prefetch_related("queues")

    def search(self, queryset: Rows, text: str) -> Rows:
        return queryset.filter(store.begins_with("origin", text))

    @admin.display(description="queues that share the budget")
    def queues_(self, target: models.Target) -> str:
        return ", ".join(sorted(queue.name for queue in target.queues.all())) or "none"

    def related_links(self, request: HttpRequest, target: models.Target) -> list[tuple[str, str]]:
        if not target.has_budget:
            return [("Targets on the dashboard", on_dashboard("targets"))]
        return [("Budget on the dashboard, where it is changed", on_dashboard("target", target.pk))]
