"""The proxy's page, and the headers that keep it from loading or running anything else."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path


def _source(text: str, tag: str) -> str:
    """The hash that lets one element run (W3C, Content Security Policy 3, "hash-source")."""
    found = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    if found is None:
        raise ValueError(f"the page has no <{tag}>")
    digest = hashlib.sha256(found[1].encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
PAGE_HEADERS = {
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            f"script-src {_source(PAGE, 'script')}",
            f"style-src {_source(PAGE, 'style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
