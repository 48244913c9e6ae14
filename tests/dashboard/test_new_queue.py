"""The form that creates a queue: each way to begin, and that the recipes are those of docs/requests.md."""

import json
import re
from ipaddress import ip_network

import pytest
from django.urls import reverse

from dashboard.inputs import new_queue
from scheduling import models
from settings.place import BASE_DIR

pytestmark = pytest.mark.django_db

PAGE = (BASE_DIR / "docs" / "requests.md").read_text()
IN_DOCS = [json.loads(text) for text in re.findall(r"```json recipe\n(.*?)```", PAGE, re.DOTALL)]
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
# What the operator enters, by recipe.
ENTERED = {
    "standard-webhooks": {"webhook_url": "http://127.0.0.1/hooks", "webhook_secret": SECRET},
    "message-api": {
        "webhook_url": "http://127.0.0.1/messages",
        "webhook_headers": "Authorization: Bearer k-71",
    },
    "get": {"webhook_url": "http://127.0.0.1/customers/{{id}}"},
}


@pytest.fixture(autouse=True)
def _loopback_is_allowed(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]


def address(slug: str) -> str:
    return f"{reverse('queues')}?recipe={slug}"


def shown(client, slug: str) -> dict:
    """What a browser would send of the form as it is opened."""
    values = {field.html_name: field.value() for field in client.get(address(slug)).context["form"]}
    # A box without its tick is not sent.
    return {name: "" if value is None else value for name, value in values.items() if value is not False}


def test_recipes_are_those_of_the_guide():
    assert [dict(recipe.fields) for recipe in new_queue.RECIPES] == IN_DOCS
    assert all(f"`{recipe.slug}`" in PAGE for recipe in new_queue.RECIPES)


@pytest.mark.parametrize("recipe", new_queue.RECIPES, ids=lambda recipe: recipe.slug)
def test_recipe_creates_its_queue_once_address_and_key_are_entered(sign_in, recipe):
    client = sign_in()
    entered = ENTERED[recipe.slug]

    answer = client.post(address(recipe.slug), shown(client, recipe.slug) | entered)

    assert answer.status_code == 302, answer.context["form"].errors
    queue = models.Queue.objects.get(name=recipe.fields["name"])
    expected = recipe.fields | entered | {"rpm": 120}
    if "webhook_headers" in expected:
        expected["webhook_headers"] = {"Authorization": "Bearer k-71"}
    assert {name: getattr(queue, name) for name in expected} == expected
    assert queue.webhook_body == recipe.fields.get("webhook_body")


@pytest.mark.parametrize("recipe", new_queue.RECIPES, ids=lambda recipe: recipe.slug)
def test_recipe_as_it_is_opened_creates_nothing(sign_in, recipe):
    client = sign_in()

    answer = client.post(address(recipe.slug), shown(client, recipe.slug))

    assert answer.status_code == 422
    assert set(answer.context["form"].errors) == set(ENTERED[recipe.slug])
    assert not models.Queue.objects.filter(name=recipe.fields["name"]).exists()


def test_plain_choices_create_a_queue_of_each_handler(sign_in, settings):
    settings.PYTHON_HANDLERS = {"os.path.join"}
    client = sign_in()

    client.post(reverse("queues"), {"name": "plain", "rpm": "5"})
    client.post(address("record"), shown(client, "record") | {"name": "noted"})
    client.post(
        address("api"),
        shown(client, "api")
        | {"name": "called", "webhook_url": "http://127.0.0.1/", "webhook_headers": "X-Key: 7"},
    )
    client.post(
        address("python"), shown(client, "python") | {"name": "run", "python_callable": "os.path.join"}
    )

    made = models.Queue.objects.exclude(name="default").order_by("pk").values_list("name", "rpm", "handler")
    assert list(made) == [
        ("plain", 5, "record"),
        ("noted", 120, "record"),
        ("called", 120, "webhook"),
        ("run", 120, "python"),
    ]
    called = models.Queue.objects.get(name="called")
    assert (called.webhook_headers, called.webhook_body, called.webhook_sign) == ({"X-Key": "7"}, None, True)


def test_page_links_to_every_way_to_begin_and_says_what_remains_to_be_entered(sign_in):
    client = sign_in("viewer")
    page = client.get(reverse("queues")).content.decode()

    for recipe in (*new_queue.CHOICES, *new_queue.RECIPES):
        assert f'href="{address(recipe.slug)}#new-name"' in page
        answer = client.get(address(recipe.slug))
        assert recipe.to_enter in answer.content.decode().replace("&#x27;", "'")
    assert client.get(address("nosuch")).status_code == 400


def test_refused_value_of_a_new_queue_is_explained_beside_its_field(sign_in):
    client = sign_in()

    answer = client.post(
        address("get"), shown(client, "get") | {"name": "no spaces", "webhook_url": "http://127.0.0.1/{{id}}"}
    )

    assert answer.status_code == 422
    assert "letters, digits" in answer.context["form"].errors["name"][0]
    assert answer.context["form"].recipe.slug == "get"
