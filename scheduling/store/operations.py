"""Operations of migrations that don't stop those who work meanwhile."""

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import AddIndex, RemoveIndex
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState


class AddIndexConcurrently(AddIndex):
    """Build an index while others write: on PostgreSQL concurrently, so the migration must set `atomic = False`.

    SQLite has one writer whatever is built.
    """

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            schema_editor.add_index(model, self.index, concurrently=True)  # type: ignore[call-arg]  # PostgreSQL's


class RemoveIndexConcurrently(RemoveIndex):
    """Drop an index while others read and write: on PostgreSQL concurrently, so the migration sets `atomic = False`.

    Only for an index that no statement of the previous release names: that release is slower without it, not wrong.
    """

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            index = from_state.models[app_label, self.model_name_lower].get_index_by_name(self.name)
            schema_editor.remove_index(model, index, concurrently=True)  # type: ignore[call-arg]  # PostgreSQL's


class OnPostgreSQL(Operation):
    """A statement for PostgreSQL alone, which leaves what Django knows of the tables as it is."""

    reversible = True
    elidable = False
    atomic = False

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        pass

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(self.statement(), params=None)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(self.undo(), params=None)

    def statement(self) -> str:
        """Return what is executed."""
        raise NotImplementedError

    def undo(self) -> str:
        """Return what takes it back."""
        raise NotImplementedError


class DropIndexOnPostgreSQL(OnPostgreSQL):
    """Drop an index on PostgreSQL, where it costs more than it saves, and keep it on SQLite.

    `restore` is the statement that builds it again.
    """

    def __init__(self, name: str, *, restore: str) -> None:
        self.name, self.restore = name, restore

    def statement(self) -> str:
        return f"DROP INDEX CONCURRENTLY IF EXISTS {self.name}"

    def undo(self) -> str:
        return self.restore

    def describe(self) -> str:
        return f"Drop index {self.name} on PostgreSQL"


class SetFillFactor(OnPostgreSQL):
    """Leave room in a table's new pages on PostgreSQL, so that a changed row stays in its page. Locks nobody out."""

    def __init__(self, table: str, percent: int) -> None:
        self.table, self.percent = table, percent

    def statement(self) -> str:
        return f"ALTER TABLE {self.table} SET (fillfactor = {self.percent})"

    def undo(self) -> str:
        return f"ALTER TABLE {self.table} RESET (fillfactor)"

    def describe(self) -> str:
        return f"Fill pages of {self.table} to {self.percent} % on PostgreSQL"
