"""`engine.json`: what the server must know of an engine, whoever built it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from falconry.errors import EngineError

SERVING_FILE = "engine.json"


class EngineLimits(BaseModel):
    """The part of `engine.json` that every kind of engine has; lengths in tokens."""

    model_config = ConfigDict(frozen=True)

    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    end_id: int
    pad_id: int

    @classmethod
    def read(cls, engine: Path) -> EngineLimits:
        """Reads them from an engine directory.

        Raises:
            EngineError: there is no `engine.json`, or it lacks one of them.
        """
        path = engine / SERVING_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise EngineError(f"cannot be read ({error.strerror})", where=path) from None
        except ValidationError as error:
            raise EngineError(f"lacks a limit: {error.error_count()} wrong", where=path) from None
