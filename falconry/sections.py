"""What every table of a profile is: a frozen model that refuses keys it does not know."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of a profile: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
