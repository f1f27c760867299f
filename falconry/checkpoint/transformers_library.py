"""The one door to transformers, which costs about a second to import and is often not needed."""

from __future__ import annotations

import os
from types import ModuleType


def import_transformers() -> ModuleType:
    """Imports transformers without its notice that PyTorch is absent, which is so by design."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    import transformers

    return transformers
