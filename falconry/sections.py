"""What every table of a profile is."""

from __future__ import annotations

from falconry.data_files import Table


class Section(Table, strict=False):
    """A table of a profile, where texts become numbers, as SET gives them."""
