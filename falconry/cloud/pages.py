"""Lists that come in pages.

oci.pagination (oci 2.189.0, pagination_utils.py) puts the SDK's own retries, ten minutes of them,
around those that a client was given; so a cloud that is ill would be told that much later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def all_records(operation: Callable[..., Any], *arguments: Any, **named: Any) -> list[Any]:
    """What a list operation gives on all of its pages."""
    found: list[Any] = []
    while True:
        answer = operation(*arguments, **named)
        page = answer.data
        found += page if isinstance(page, list) else page.items  # some give a collection
        if not answer.has_next_page:
            return found
        named["page"] = answer.next_page


def all_objects(operation: Callable[..., Any], *arguments: Any, **named: Any) -> list[Any]:
    """What list_objects gives, which pages in a way of its own."""
    found: list[Any] = []
    while True:
        listing = operation(*arguments, **named).data
        found += listing.objects
        if listing.next_start_with is None:
            return found
        named["start"] = listing.next_start_with
