"""Who does something, as every verb takes it and the activity log keeps it."""

from dataclasses import dataclass
from enum import StrEnum

from operators.models import Operator, Token


class Kind(StrEnum):
    OPERATOR = "operator"
    TOKEN = "token"
    COMMAND_LINE = "command_line"
    SYSTEM = "system"


class Face(StrEnum):
    """Where the act came in."""

    PAGE = "page"
    ADMIN = "admin"
    API = "api"
    COMMAND_LINE = "command_line"
    SYSTEM = "system"


@dataclass(frozen=True)
class Actor:
    """kind, and for an operator or a token its key and its name at the time of the act."""

    kind: Kind
    id: int | None
    name: str
    face: Face

    @classmethod
    def of_operator(cls, operator: Operator, *, face: Face | str = Face.PAGE) -> "Actor":
        return cls(Kind.OPERATOR, operator.pk, operator.get_username(), Face(face))

    @classmethod
    def of_token(cls, token: Token) -> "Actor":
        return cls(Kind.TOKEN, token.pk, token.name, Face.API)

    @classmethod
    def command_line(cls) -> "Actor":
        return cls(Kind.COMMAND_LINE, None, "command line", Face.COMMAND_LINE)

    @classmethod
    def system(cls) -> "Actor":
        return cls(Kind.SYSTEM, None, "system", Face.SYSTEM)

    def __str__(self) -> str:
        return self.name
