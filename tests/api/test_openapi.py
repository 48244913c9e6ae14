"""The OpenAPI document: valid, described, and good enough for the generators of clients."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from openapi_spec_validator import OpenAPIV31SpecValidator

from api import descriptions
from api.docs import schema_of
from api.urls import api as the_api
from scheduling.models import EventType

DOCUMENT = schema_of(the_api)
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = [
    (method, path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]


def test_document_is_valid_openapi_3_1():
    assert DOCUMENT["openapi"].startswith("3.1")
    assert [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


@pytest.mark.django_db
def test_document_is_readable_without_credentials(anonymous):
    response = anonymous.get("/openapi.json")
    assert response.status_code == 200
    assert response.json() == DOCUMENT


def test_fields_are_all_described():
    missing = [
        f"{name}.{field}"
        for name, schema in SCHEMAS.items()
        for field, facts in schema.get("properties", {}).items()
        if len(facts.get("description", "")) < 8
    ]
    assert not missing
    assert not [
        name for name, schema in SCHEMAS.items() if "enum" not in schema and not schema.get("description")
    ]


def test_parameters_operations_and_responses_are_all_described():
    for method, path, operation in OPERATIONS:
        assert operation["summary"], (method, path)
        assert len(operation["description"]) > 20, (method, path)
        for parameter in operation["parameters"]:
            assert len(parameter["description"]) >= 8, (method, path, parameter["name"])
        for status, response in operation["responses"].items():
            assert response["description"], (method, path, status)


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("get", "/queues/", "read or write"),
        ("post", "/queues/", "write"),
        ("post", "/celery_ids_tasks/", "write or submit"),
    ],
)
def test_operations_name_the_scopes_that_may_send_them(method, path, scopes):
    description = DOCUMENT["paths"][path][method]["description"]
    assert f"a token with the scope {scopes}, or" in description


def test_descriptions_of_expect_say_what_is_counted():
    described = {
        path: parameter["description"]
        for method, path, operation in OPERATIONS
        for parameter in operation["parameters"]
        if parameter["name"] == "expect"
    }
    assert "list" in described["/celery_ids_tasks/"]
    assert "list" not in described["/celery_ids_tasks/{id}/retry/"]


def test_descriptions_are_all_used():
    fields = {(name, field) for name, schema in SCHEMAS.items() for field in schema.get("properties", {})}
    parameters = {parameter["name"] for *_, operation in OPERATIONS for parameter in operation["parameters"]}
    used = parameters | {field for _, field in fields} | {f"{name}.{field}" for name, field in fields}
    assert not set(descriptions.FIELDS) - used
    assert not set(descriptions.SCHEMAS) - set(SCHEMAS)


def test_bodies_are_named_components():
    for method, path, operation in OPERATIONS:
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            schema = content["schema"]
            assert "$ref" in schema or schema["type"] == "string", (method, path, kind)


def test_words_of_a_fixed_set_are_enums():
    for schema, field in (
        ("Task", "state"), ("PlaceOfTask", "status"), ("Queue", "overflow"), ("Queue", "handler"),
        ("Queue", "late_policy"), ("Queue", "webhook_method"), ("Event", "event"),
        ("Window", "state"), ("ListWarning", "kind"),
        ("Tested", "verdict"),
    ):  # fmt: skip
        facts = SCHEMAS[schema]["properties"][field]
        facts = SCHEMAS[facts["$ref"].rpartition("/")[2]] if "$ref" in facts else facts
        assert facts["enum"], (schema, field)


def test_webhooks_are_described():
    assert set(DOCUMENT["webhooks"]) == {"id", "task.done", *(f"event.{word}" for word in EventType.values)}
    for webhook in DOCUMENT["webhooks"].values():
        names = {parameter["name"] for parameter in webhook["post"]["parameters"]}
        assert {"webhook-id", "webhook-timestamp", "webhook-signature"} <= names


@pytest.mark.django_db
def test_openapi_python_client_generates_a_client_that_works(server, tmp_path):
    (tmp_path / "openapi.json").write_text(json.dumps(DOCUMENT))
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    command += ["--path", "openapi.json", "--output-path", "generated", "--fail-on-warning"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (tmp_path / "generated" / "client.py").exists(), done.stdout + done.stderr
    script = """
import sys
from generated import AuthenticatedClient
from generated.api.queues import list_queues
from generated.api.tasks import get_task, list_tasks, patch_task, submit_list
from generated.api.users import create_user
from generated.models import Accepted, ListSubmission, NewUser, Task, TaskEdit

client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2])
accepted = submit_list.sync(client=client, body=ListSubmission(payload=[1001, "1002"], task_name="generated"))
assert isinstance(accepted, Accepted), accepted
task = get_task.sync(accepted.task_id, client=client)
assert isinstance(task, Task) and task.task_name == "generated" and task.counts.ids == 2, task
assert [one.id for one in list_tasks.sync(client=client)] == [accepted.task_id]
renamed = patch_task.sync(accepted.task_id, client=client, body=TaskEdit(task_name="renamed"))
assert renamed.task_name == "renamed", renamed
assert create_user.sync(client=client, body=NewUser(name="Ann")).name == "Ann"
assert [queue.name for queue in list_queues.sync(client=client)] == ["default"]
print("works")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, server.url, server.token],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout == "works\n", done.stdout + done.stderr


CLIENT = ("openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3")
LINTERS = ("@stoplight/spectral-cli@6.16.3", "@redocly/cli@2.77.0")


def install(folder: Path, packages: tuple[str, ...]) -> None:
    """Install packages of npm; skip visibly where there is no node or no registry."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node is not installed")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm can't install {', '.join(packages)}")
    (folder / "openapi.json").write_text(json.dumps(DOCUMENT))


@pytest.mark.npm
def test_spectral_and_redocly_find_no_error(tmp_path):
    """Their 400 packages take a minute to install, so this is not part of every change."""
    install(tmp_path, LINTERS)
    (tmp_path / ".spectral.yaml").write_text('extends: ["spectral:oas"]')
    shutil.copy(settings.BASE_DIR / "redocly.yaml", tmp_path)
    for command in (["spectral", "lint", "--fail-severity", "error"], ["redocly", "lint"]):
        done = subprocess.run(
            ["npx", *command, "openapi.json"], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.django_db
@pytest.mark.npm
def test_openapi_typescript_generates_a_client_that_works(server, tmp_path):
    install(tmp_path, CLIENT)
    (tmp_path / "package.json").write_text(json.dumps({"type": "module"}))
    (tmp_path / "use.ts").write_text("""
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

declare const process: { argv: string[] };
const headers = { Authorization: `Bearer ${process.argv[3]}` };
const client = createClient<paths>({ baseUrl: process.argv[2], headers });
const { data, error } = await client.POST("/celery_ids_tasks/", {
  body: { task_name: "generated", payload: [1001, "1002"] },
});
if (!data) throw new Error(JSON.stringify(error));
const id: number = data.task_id!;
const task = await client.GET("/celery_ids_tasks/{id}/", { params: { path: { id } } });
const ids: number | undefined = task.data?.counts.ids;
const queues = await client.GET("/queues/", { params: { query: { limit: 5 } } });
const handlers: ("record" | "webhook" | "python")[] = queues.data!.map((queue) => queue.handler);
console.log(ids, handlers.join());
""")
    options = ["--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"]
    for command in (
        ["npx", "openapi-typescript", "openapi.json", "-o", "schema.d.ts"],
        ["npx", "tsc", *options, "use.ts"],
        ["node", "use.js", server.url, server.token],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "2 record\n"


HEY_API = ("@hey-api/openapi-ts@0.95.0", "typescript@5.9.3")


@pytest.mark.django_db
@pytest.mark.npm
def test_hey_api_generates_a_client_that_works(server, tmp_path):
    """The third generator: a function for each operation, named by its operation_id."""
    install(tmp_path, HEY_API)
    (tmp_path / "package.json").write_text(json.dumps({"type": "module"}))
    # By it the generator knows that imports name files.
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": {"moduleResolution": "nodenext"}}))
    (tmp_path / "use.ts").write_text("""
import { client } from "./client/client.gen.js";
import { getTask, listTasks, submitList } from "./client/index.js";

declare const process: { argv: string[] };
client.setConfig({ baseUrl: process.argv[2], headers: { Authorization: `Bearer ${process.argv[3]}` } });
const { data, error } = await submitList({
  body: { task_name: "generated", payload: [1001, "1002"], reference: "a campaign" },
});
if (!data) throw new Error(JSON.stringify(error));
const task = await getTask({ path: { id: data.task_id! } });
const found = await listTasks({ query: { reference: "a campaign" } });
console.log(task.data?.counts.ids, found.data?.length, found.data?.[0]?.state);
""")
    options = [
        "--strict",
        "--skipLibCheck",
        "--target",
        "es2022",
        "--module",
        "nodenext",
        "--lib",
        "es2022,dom,dom.iterable",
    ]
    for command in (
        ["npx", "openapi-ts", "-i", "openapi.json", "-o", "client", "-c", "@hey-api/client-fetch"],
        ["npx", "tsc", *options, "use.ts"],
        ["node", "use.js", server.url, server.token],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "2 1 placing\n"
