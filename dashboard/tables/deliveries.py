"""The table of deliveries: which event went where, and what came of it."""

from django.middleware.csrf import get_token
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dashboard import formatting
from dashboard.markup import EMPTY, Markup, join, markup
from dashboard.tables.columns import CARDS, Listed, link, number, text
from scheduling.models import Delivery

_SIGNS = {"delivered": ("good", "✓"), "due": ("quiet", "○"), "abandoned": ("bad", "✗")}


class DeliveryTable(Listed):
    """Deliveries; a row is a Delivery."""

    event = text("Event", "pk", shown="whole")
    type = text("Type", "event__type", shown="quiet")
    channel = text("Channel", "channel__name", short="to")
    at = number("Happened", "event__at", write=formatting.moment)
    state = text("State", "pk", shown="whole")
    again = text(format_html('<span class="visually-hidden">{}</span>', "Send again"), "pk", shown="act")

    def render_event(self, record: Delivery) -> SafeString | str:
        event = record.event
        title = f"Test: {event.title}" if event.data.get("test") else event.title
        return link(event.path, title) if event.path else title

    def render_type(self, record: Delivery) -> str:
        return record.event.type

    def render_state(self, record: Delivery) -> Markup:
        css, sign = _SIGNS[record.state]
        attempts = formatting.plural(record.attempts, "attempt")
        words = f"{record.state} after {attempts}"
        if record.state == "due":
            words = f"failed, {attempts}" if record.error else "due"
        shown = '<span class="%s"><span class="sign" aria-hidden="true">%s</span>%s</span>%s'
        return markup(shown, css, sign, words, _details(record))

    def render_again(self, record: Delivery) -> SafeString | str:
        if record.due_at is not None or not self.context["request"].user.may("act"):
            return ""
        return format_html(
            '<form method="post" action="{}"><input type="hidden" name="csrfmiddlewaretoken" value="{}">'
            '<button class="button small" aria-label="Send again: {}, to {}">Send again</button></form>',
            reverse("send_event_again", args=[record.pk]),
            get_token(self.context["request"]),
            record.event.title,
            record.channel.name,
        )

    class Meta(Listed.Meta):
        attrs = CARDS


def _details(record: Delivery) -> Markup:
    """Return when it was delivered, or what went wrong and when it is tried next."""
    details: list[Markup] = []
    if record.delivered_at:
        details.append(markup("%s", formatting.moment(record.delivered_at)))
    if record.error:
        details.append(markup("%s", record.error))
    if record.error and record.due_at:
        details.append(markup("next attempt %s", formatting.moment(record.due_at)))
    return markup(' <span class="quiet">· %s</span>', join(details, Markup(" · "))) if details else EMPTY
