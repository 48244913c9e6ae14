"""Shortcuts through Django's compiler of queries, which takes half of a storm's time. The SQL stays the same.

Kept is only what follows from a model alone: how its columns are written, in a SELECT of all of them too, and what
converts their values.
"""

from typing import Any

from django.db.models.expressions import Col
from django.db.models.sql.compiler import SQLCompiler

_ALL = (frozenset(), True)


def remember() -> None:
    """Let this process work out once for each model what Django works out for each query."""
    column_as_sql, select_of, converters_of = Col.as_sql, SQLCompiler.get_select, SQLCompiler.get_converters
    # By the identity of fields: those of models live as long as the process.
    columns: dict[int, Any] = {}
    selects: dict[Any, Any] = {}
    converters: dict[int, list[Any]] = {}

    def as_sql(self: Col, compiler: Any, connection: Any) -> Any:
        if self.alias != self.target.model._meta.db_table:
            return column_as_sql(self, compiler, connection)
        compiled = columns.get(id(self.target))
        if compiled is None:
            compiled = columns[id(self.target)] = column_as_sql(self, compiler, connection)
        # Some add their own to the parameters.
        return compiled[0], compiled[1][:]

    def get_select(self: SQLCompiler, with_col_aliases: bool = False) -> Any:
        query = self.query
        if (
            not query.default_cols
            or query.selected is not None
            or query.extra_select
            or query.annotation_select
            or query.select_related
            or query.deferred_loading != _ALL
            or with_col_aliases
            or query.get_initial_alias() != query.model._meta.db_table
        ):
            return select_of(self, with_col_aliases)
        if query.model not in selects:
            selects[query.model] = select_of(self)
        select, klass_info, _ = selects[query.model]
        return select[:], {**klass_info}, {}

    def get_converters(self: SQLCompiler, expressions: Any) -> Any:
        result = {}
        for i, expression in enumerate(expressions):
            if type(expression) is not Col or expression.output_field is not expression.target:
                return converters_of(self, expressions)
            key = id(expression.target)
            if key not in converters:
                converters[key] = converters_of(self, [expression]).get(0, (None,))[0]
            if converters[key]:
                result[i] = (converters[key], expression)
        return result

    Col.as_sql, SQLCompiler.get_select, SQLCompiler.get_converters = as_sql, get_select, get_converters
