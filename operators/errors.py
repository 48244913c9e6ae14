"""Errors that are expected. The docstring is the sentence shown."""


class OperatorsError(Exception):
    """Something about operators or tokens could not be done."""

    def __str__(self) -> str:
        return self.__doc__ or ""


class AlreadyRevoked(OperatorsError):
    """This token has been revoked already."""


class NamelessToken(OperatorsError):
    """A token needs a name of 1 to 100 characters, to be told from others."""
