"""The part of the search language that finds resources of one type by their attributes. Pure.

    query <type> resources [where <attribute> = '<value>' [&& ...]]

The language: docs.oracle.com/en-us/iaas/Content/Search/Concepts/querysyntax.htm. What is outside
this part is refused, never ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from local_oci.http.errors import ServiceError, invalid_parameter

_QUERY = re.compile(r"\s*query\s+(\w+)\s+resources(?:\s+where\s+(.*\S))?\s*", re.IGNORECASE)
_EQUATION = re.compile(r"\s*(\w+)\s*=\s*'([^']*)'\s*")


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query.

    Args:
        type: of the resources, in small letters.
        equal: what each attribute, in small letters, has to be.
    """

    type: str
    equal: tuple[tuple[str, str], ...]


def parse(text: str) -> Query:
    """Parse a query. That capitals matter in values alone is inferred.

    Raises:
        ServiceError: 400 InvalidParameter, with the part that is not understood.
    """
    match = _QUERY.fullmatch(text)
    if match is None:
        raise _not_understood(text)
    kind, conditions = match.groups()
    parts = conditions.split("&&") if conditions else []
    return Query(kind.lower(), tuple(_equation(part) for part in parts))


def _equation(text: str) -> tuple[str, str]:
    match = _EQUATION.fullmatch(text)
    if match is None:
        raise _not_understood(text)
    return match[1].lower(), match[2]


def _not_understood(text: str) -> ServiceError:
    return invalid_parameter(
        f"query: '{text.strip()}' is not understood (local_oci knows: query <type> resources "
        "where <attribute> = '<value>' && ...)."
    )
