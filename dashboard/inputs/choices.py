"""The choices of forms and filters, with their names."""

from scheduling.models import Overflow

# Every verb in the log. A test compares them with the verbs that the code records.
VERBS = (
    "submitted", "renamed", "replaced", "cancelled", "cancelled_matching", "retried", "stopped_retrying",
    "stopped_sending_again", "stopped_cancelling",
    "sent_again", "discarded", "paused", "resumed", "braked", "released", "released_target", "tested",
    "created", "changed", "deleted", "erased", "drew_keys_again", "rotated_secret", "reencrypted",
    "gave_up_calling_back", "asked_to_call_back", "tested_callback", "issued", "revoked", "set_time_zone",
    "turned_on_two_factor", "turned_off_two_factor", "saved_view", "deleted_view", "put_on_hold", "continued",
    "changed_password", "signed_out_everywhere", "let_in_again", "checked_plan", "refused",
    "tested_alert", "tested_channel", "sent_event_again", "abandoned_event",
)  # fmt: skip
# The kinds of objects in the log, with their names.
KINDS = {
    "task": "task",
    "queue": "queue",
    "user": "user",
    "target": "target",
    "idlist": "preview",
    "operator": "operator",
    "token": "token",
    "installation": "installation",
    "channel": "channel",
    "alertrule": "kind of alert",
}
# What becomes of a list that doesn't fit into a quarter-hour.
OVERFLOW = {
    Overflow.DISPERSE.value: "go above the limit, evenly",
    Overflow.CARRY_OVER.value: "continue in later quarter-hours",
}
