"""Why something is no limit: one sentence, in the place of a value."""


class Flaw(str):
    """What is wrong with something that was to be read."""

    __slots__ = ()
