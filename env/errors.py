"""The one exception for wrong input: what was given, where, and what was expected."""


class InputError(ValueError):
    """A file, key or argument that cannot be used; the message is one line for a person."""

    def __init__(self, where: str, expected: str, got: object) -> None:
        super().__init__(f"{where}: expected {expected}, got {got!r}")
