"""Creating a resource once, however many runners ask for it and however often a request is cut.

OCI gives the same answer to the same retry token for a day. A token that everybody who wants the
same thing computes makes their requests one; where the token's resource is gone again, the next one
in line is used.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import oci

from falconry.digests import bytes_digest

# Longer than OCI lets a resource be named: what is asked again after so many deletions in one day
# is a mistake somewhere.
_MOST_GENERATIONS = 100


def create_once(
    parts: tuple[str, ...],
    create: Callable[[str], Any],
    lives: Callable[[Any], bool],
    find: Callable[[], Any | None],
) -> Any:
    """Creates a resource, or gives the one that somebody else has just created.

    Args:
        parts: what tells this resource from all others; the retry token is made from them.
        create: sends the request with a retry token and gives its result.
        lives: whether a result stands for a resource that is there: the cloud repeats its answer
            also after the resource was deleted.
        find: looks for the resource. It is asked when somebody created it with other details.

    Raises:
        oci.exceptions.ServiceError: the cloud refuses.
    """
    for generation in itertools.count():
        token = bytes_digest("\n".join((*parts, str(generation))).encode()).partition(":")[2]
        try:
            made = create(token)
        except oci.exceptions.ServiceError as error:
            taken = (error.status, error.code) == (409, "InvalidatedRetryToken")
            if not taken or generation == _MOST_GENERATIONS:
                raise
            made = find()
            if made is not None:
                return made
            continue
        if lives(made) or generation == _MOST_GENERATIONS:
            return made
    raise AssertionError("unreachable")
