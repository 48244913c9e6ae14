"""Migrations expand the tables first: what runs beside them in the previous release goes on working."""

import pytest
from django.db import connection, migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ModelState, ProjectState

from scheduling.store import schema
from scheduling.store.operations import (
    AddIndexConcurrently,
    DropIndexOnPostgreSQL,
    RemoveIndexConcurrently,
    SetFillFactor,
)

OURS = ("scheduling", "operators")
# Those that were there before versions could run side by side.
FREE = {"scheduling": 7, "operators": 1}
# Names in code and forms: no column changes.
HARMLESS = (
    migrations.AlterModelOptions,
    migrations.AlterModelManagers,
    migrations.RunPython,
    SetFillFactor,
)


def migrations_of_ours() -> list[tuple[str, migrations.Migration]]:
    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    return [
        (f"{app}.{name}", operation)
        for (app, name), operation in sorted(loader.disk_migrations.items())
        if app in OURS and int(name[:4]) > FREE[app]
    ]


def hindrances(migration: migrations.Migration) -> list[str]:
    """What the previous release, which knows nothing of the migration, would stumble over."""
    created = {
        operation.name.lower()
        for operation in migration.operations
        if isinstance(operation, migrations.CreateModel)
    }
    added = {
        operation.constraint.name
        for operation in migration.operations
        if isinstance(operation, migrations.AddConstraint)
    }
    removed = {
        operation.name
        for operation in migration.operations
        if isinstance(operation, migrations.RemoveConstraint)
    }
    result = []
    for operation in migration.operations:
        model = getattr(operation, "model_name", "")
        if isinstance(operation, (*HARMLESS, migrations.CreateModel)) or model in created:
            continue
        if isinstance(operation, migrations.RemoveConstraint):
            # One that comes back may allow more; what the previous release writes has to be among it.
            if operation.name not in added:
                result.append(f"{operation.describe()}: drop it in a later release")
        elif isinstance(operation, migrations.AddConstraint):
            if operation.constraint.name not in removed:
                result.append(f"{operation.describe()}: the previous release doesn't keep to it")
        elif isinstance(operation, (AddIndexConcurrently, RemoveIndexConcurrently, DropIndexOnPostgreSQL)):
            if migration.atomic:
                result.append(f"{operation.describe()}: the migration must not be atomic")
        elif isinstance(operation, migrations.AddField):
            if not operation.field.null and operation.field.db_default is models.NOT_PROVIDED:
                result.append(f"{operation.describe()}: the previous release inserts rows without it")
        elif isinstance(operation, migrations.SeparateDatabaseAndState):
            if operation.database_operations:
                result.append(f"{operation.describe()}: changes the database")
        elif isinstance(operation, migrations.AlterField):
            if _narrows(operation):
                result.append(f"{operation.describe()}: needs a default in the database")
        else:
            result.append(f"{operation.describe()}: contract in a later release")
    return result


def _narrows(operation: migrations.AlterField) -> bool:
    field = operation.field
    return not field.null and field.db_default is models.NOT_PROVIDED and not field.choices


def test_migrations_expand_or_declare_that_they_contract():
    assert {
        name: result
        for name, operation in migrations_of_ours()
        if not schema.Schema(newer=(name,)).contracted and (result := hindrances(operation))
    } == {}


@pytest.mark.parametrize(
    ("operation", "hinders"),
    [
        (migrations.AddField("task", "new", models.IntegerField(null=True)), False),
        (migrations.AddField("task", "new", models.IntegerField(db_default=0)), False),
        (migrations.AddField("task", "new", models.IntegerField(default=0)), True),
        (migrations.RemoveField("task", "name"), True),
        (migrations.RenameField("task", "name", "title"), True),
        (migrations.DeleteModel("task"), True),
        (migrations.AddIndex("task", models.Index(fields=["name"], name="by_name")), True),
        (AddIndexConcurrently("task", models.Index(fields=["name"], name="by_name")), True),
        (migrations.RemoveIndex("task", "by_name"), True),
        (RemoveIndexConcurrently("task", "by_name"), True),
        (DropIndexOnPostgreSQL("by_name", restore="CREATE INDEX"), True),
        (SetFillFactor("scheduling_task", 50), False),
        (migrations.CreateModel("new", [("id", models.BigAutoField(primary_key=True))]), False),
    ],
)
def test_blocking_operation_is_found_in_a_migration(operation, hinders):
    migration = migrations.Migration("0099_some", "scheduling")
    migration.operations = [operation]
    assert bool(hindrances(migration)) == hinders


@pytest.mark.django_db(transaction=True)
def test_index_is_built_concurrently_where_the_database_can():
    field = models.CharField(max_length=200)
    state = ProjectState()
    state.add_model(
        ModelState("scheduling", "Task", [("id", models.BigAutoField(primary_key=True)), ("name", field)])
    )
    operation = AddIndexConcurrently("task", models.Index(fields=["name"], name="task_by_name_here"))
    after = state.clone()
    operation.state_forwards("scheduling", after)
    with connection.schema_editor(atomic=False, collect_sql=True) as editor:
        operation.database_forwards("scheduling", editor, state, after)
    written = " ".join(editor.collected_sql)
    assert "task_by_name_here" in written
    assert ("CONCURRENTLY" in written) == (connection.vendor == "postgresql")


@pytest.mark.django_db(transaction=True)
def test_index_is_dropped_concurrently_where_the_database_can():
    index = models.Index(fields=["name"], name="task_by_name_here")
    state = ProjectState()
    fields = [("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=200))]
    state.add_model(ModelState("scheduling", "Task", fields, options={"indexes": [index]}))
    operation = RemoveIndexConcurrently("task", "task_by_name_here")
    after = state.clone()
    operation.state_forwards("scheduling", after)
    with connection.schema_editor(atomic=False, collect_sql=True) as editor:
        operation.database_forwards("scheduling", editor, state, after)
    written = " ".join(editor.collected_sql)
    assert "DROP" in written
    assert "task_by_name_here" in written
    assert ("CONCURRENTLY" in written) == (connection.vendor == "postgresql")


@pytest.mark.django_db
def test_change_of_status_touches_no_index_on_postgresql():
    if connection.vendor != "postgresql":
        pytest.skip("SQLite writes only the entries that change")
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'scheduling_assignment'")
        assert not [definition for (definition,) in cursor.fetchall() if "status" in definition]
        cursor.execute("SELECT reloptions FROM pg_class WHERE relname = 'scheduling_assignment'")
        assert cursor.fetchone()[0] == ["fillfactor=50"]
