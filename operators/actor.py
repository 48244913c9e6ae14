"""The actor of an operation: every operation takes one, and the activity log stores it."""

from dataclasses import dataclass
from enum import StrEnum

from operators.models import Operator, Token


class Kind(StrEnum):
    OPERATOR = "operator"
    TOKEN = "token"
    COMMAND_LINE = "command_line"
    SYSTEM = "system"


class Interface(StrEnum):
    """The interface through which the operation was requested."""

    PAGE = "page"
    ADMIN = "admin"
    API = "api"
    COMMAND_LINE = "command_line"
    SYSTEM = "system"


@dataclass(frozen=True)
class Actor:
    """Who performed an operation. id and name: of the operator or token, as they were at the time."""

    kind: Kind
    id: int | None
    name: str
    interface: Interface

    @classmethod
    def of_operator(cls, operator: Operator, *, interface: Interface | str = Interface.PAGE) -> "Actor":
        return cls(Kind.OPERATOR, operator.pk, operator.get_username(), Interface(interface))

    @classmethod
    def of_token(cls, token: Token) -> "Actor":
        return cls(Kind.TOKEN, token.pk, token.name, Interface.API)

    @classmethod
    def command_line(cls) -> "Actor":
        return cls(Kind.COMMAND_LINE, None, "command line", Interface.COMMAND_LINE)

    @classmethod
    def system(cls) -> "Actor":
        return cls(Kind.SYSTEM, None, "system", Interface.SYSTEM)

    def __str__(self) -> str:
        return self.name
