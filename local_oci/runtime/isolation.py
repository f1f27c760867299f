"""How far a deployment's processes are set apart from the machine."""

from __future__ import annotations

from enum import StrEnum


class Isolation(StrEnum):
    """The kinds; `namespaces` and `plain` say what each one is made of."""

    NAMESPACES = "namespaces"
    PLAIN = "plain"


# The choice of whoever does not choose: namespaces where the machine allows them.
AUTO = "auto"
