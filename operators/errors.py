"""Expected errors. The docstring of each is the message shown."""


class OperatorsError(Exception):
    """An operation on an operator or a token failed."""

    def __str__(self) -> str:
        return self.__doc__ or ""


class AlreadyRevoked(OperatorsError):
    """This token has already been revoked."""


class InvalidTokenName(OperatorsError):
    """A token needs a name of 1 to 100 characters."""


class SignInRefused(OperatorsError):
    """The organization's server has identified somebody who may not sign in here."""

    def __init__(self, *, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class InvalidView(OperatorsError):
    """A view needs a name of 1 to 60 characters."""


class TooManyViews(OperatorsError):
    """You have 30 views of this page. Delete one first."""
