"""The form that creates a queue: plain ways to begin, and the recipes of docs/requests.md, filled in."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from django import forms
from django.core.exceptions import BadRequest

from dashboard.inputs.queue_settings import HeadersField, QueueForm
from scheduling import models
from scheduling.models import HandlerKind
from scheduling.queues import validation

# A placeholder in a recipe for what only its reader knows.
KEY = "YOUR-KEY"


class Recipe(NamedTuple):
    """A way to begin. fields: by the names of docs/queue-fields.md; all but the handler can be changed in the form.

    to_enter: a sentence on what remains to be entered. others: further fields to show. required: those without
    which the queue would not work; what a recipe has for them is an example, and not filled in.
    """

    slug: str
    title: str
    about: str
    to_enter: str
    fields: Mapping[str, Any] = {}
    others: tuple[str, ...] = ()
    required: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Return the fields that the form shows besides the name and the rpm."""
        shown = {*self.fields, *self.others} - {"handler"}
        names = [name for name in validation.FIELDS if name in shown]
        if "webhook_body" in names:
            names.insert(names.index("webhook_body"), "body_kind")
        return names


CHOICES = (
    Recipe(
        "record",
        "Record",
        "Mark each ID as processed; no request is made.",
        "Enter a name.",
    ),
    Recipe(
        "api",
        "Call an API",
        "Make an HTTP request for each ID.",
        "Enter a name, the address, and what else the API needs. What counts as success is set on the queue's page.",
        {"handler": HandlerKind.WEBHOOK.value},
        others=("webhook_url", "webhook_method", "webhook_headers", "webhook_secret", "webhook_body"),
        required=("webhook_url",),
    ),
    Recipe(
        "python",
        "Run Python",
        "Call a function of this deployment with the IDs.",
        "Enter a name, and choose the function.",
        {"handler": HandlerKind.PYTHON.value},
        others=("python_callable",),
        required=("python_callable",),
    ),
)
RECIPES = (
    Recipe(
        "standard-webhooks",
        "A Standard Webhooks receiver",
        "The standard JSON, signed, for an existing library to verify.",
        "Enter the receiver's address and the secret that you share with it.",
        {
            "name": "receiver",
            "handler": HandlerKind.WEBHOOK.value,
            "webhook_url": "https://hooks.example.com/in",
            "webhook_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        },
        required=("webhook_url", "webhook_secret"),
    ),
    Recipe(
        "message-api",
        "An e-mail or message API",
        "A key in a header and a JSON body; the ID of each message is kept.",
        f"Enter the API's address, put your key in the place of {KEY}, and write the body as the API expects it.",
        {
            "name": "messages",
            "handler": HandlerKind.WEBHOOK.value,
            "webhook_url": "https://api.example.com/v1/messages",
            "webhook_headers": {"Authorization": f"Bearer {KEY}"},
            "webhook_body": '{"to": {"external_id": "{{id}}"}, "template": "renewal",'
            ' "reference": "{{task_id}}-{{id}}"}',
            "webhook_sign": False,
            "success_statuses": "202",
            "keep_answers": "/message/id",
        },
        required=("webhook_url",),
    ),
    Recipe(
        "get",
        "A GET for each ID",
        "To warm a cache, say. A page that is gone counts as done.",
        "Enter the address, with {{id}} where the ID belongs. No key is needed.",
        {
            "name": "warm",
            "handler": HandlerKind.WEBHOOK.value,
            "webhook_url": "https://shop.example.com/customers/{{id}}/offers?source=warm",
            "webhook_method": "GET",
            "webhook_body": "",
            "webhook_sign": False,
            "success_statuses": "200-299,404,410",
        },
        required=("webhook_url",),
    ),
)
GROUPS = (("What it does for each ID", CHOICES), ("Or a recipe, filled in", RECIPES))


def recipe(slug: str) -> Recipe:
    """Return the recipe that an address names. Raises BadRequest."""
    every = {each.slug: each for each in (*CHOICES, *RECIPES)}
    if slug not in every:
        raise BadRequest(f"recipe: {slug[:40]!r} is none of {', '.join(every)}.")
    return every[slug]


class NewQueueForm(QueueForm):
    """A queue to be created, with the settings of its recipe. The others are changed on its page."""

    name = forms.CharField(max_length=50, help_text="Letters, digits, - and _.")
    rpm = forms.IntegerField(label="Requests per minute", min_value=1, max_value=models.MAX_RPM, initial=120)

    class Meta(QueueForm.Meta):
        """Named again, since mypy's plugin looks for it in each form of a model."""

    def __init__(self, recipe: Recipe, data: Mapping[str, Any] | None = None) -> None:
        self.recipe = recipe
        filled = {name: value for name, value in recipe.fields.items() if name not in recipe.required}
        super().__init__(models.Queue(**filled), data)
        self.initial["name"] = filled.get("name", "")
        shown = ["name", "rpm", *recipe.names]
        for name in self.fields.keys() - set(shown):
            del self.fields[name]
        self.order_fields(shown)
        for name in recipe.required:
            self.fields[name].required = True
            if example := recipe.fields.get(name):
                self.fields[name].help_text = f"Such as {example}"
        if "webhook_secret" in shown:
            is_optional = "webhook_secret" not in recipe.required
            unsigned = " It may be empty." if is_optional else ""
            self.fields["webhook_secret"].help_text = f"whsec_ and base64, as the receiver has it.{unsigned}"
        if "webhook_headers" in shown:
            self._show_example_headers(filled.get("webhook_headers", {}))

    def _show_example_headers(self, example: Mapping[str, str]) -> None:
        field = self.fields["webhook_headers"]
        assert isinstance(field, HeadersField)
        # They are no values that are stored and must stay hidden.
        field.current = {}
        field.help_text = "One per line, as “Name: value”. Once stored, values are never shown."
        self.initial["webhook_headers"] = "\n".join(f"{name}: {value}" for name, value in example.items())

    def clean_webhook_headers(self) -> dict[str, str]:
        """Refuse the example's key: each request would be answered with 401."""
        headers: dict[str, str] = self.cleaned_data["webhook_headers"]
        if any(KEY in value for value in headers.values()):
            raise forms.ValidationError(f"Put your key in the place of {KEY}.")
        return headers

    @property
    def queue_fields(self) -> dict[str, Any]:
        """Return the queue's fields, by the names that the operation uses."""
        fields = {name: value for name, value in self.cleaned_data.items() if name in validation.FIELDS}
        if "webhook_body" in fields:
            fields["webhook_body"] = self.body()
        if handler := self.recipe.fields.get("handler"):
            fields["handler"] = handler
        return fields
