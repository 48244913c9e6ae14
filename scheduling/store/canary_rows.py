"""Rows of canaries, as a part of a statement: the first IDs of a list, which run while its other IDs wait."""

# Whether a row is one of its task's canary.
IN_CANARY = (
    "EXISTS (SELECT 1 FROM scheduling_canaryid c"
    " WHERE c.task_id = scheduling_assignment.task_id AND c.user_id = scheduling_assignment.user_id)"
)
