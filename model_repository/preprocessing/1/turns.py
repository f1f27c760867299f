"""Where a chat's next turn begins, which ends the assistant's answer.

A model that goes on after its answer writes the user's next message itself. What would begin it is
found by rendering a trial conversation: it stands between an assistant's message and the next one.
"""

import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from .chat import ChatTemplate
from .encoding import Encoder
from .refusal import RefusedError

_ANSWER, _QUESTION = "«answer»", "«question»"
_TRIAL = [
    {"role": "user", "content": "«opening»"},
    {"role": "assistant", "content": _ANSWER},
    {"role": "user", "content": _QUESTION},
]
# As many templates write the begin of a message, whether it is a token of its own or not.
_TAG = re.compile(r"<\|[a-z_]+\|>")
_INSTRUCTED = [{"role": "system", "content": "«instruction»"}, *_TRIAL]


@dataclass(frozen=True, slots=True)
class Turns:
    """What ends an assistant's message, beside the end tokens.

    Attributes:
        ids: special tokens with which messages begin or end.
        texts: tags that are no such tokens, or what begins a user's message without any.
    """

    ids: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, template: ChatTemplate | None, encoder: Encoder, end_ids: Collection[int]
    ) -> "Turns":
        """Finds them; none for a checkpoint whose template takes no such conversation."""
        if template is None:
            return cls()
        try:
            rendered = template.render(_TRIAL)
        except RefusedError:
            return cls()
        written = rendered
        with suppress(RefusedError):  # of a template that takes no system message
            written += template.render(_INSTRUCTED)
        ids = tuple(each for each in encoder.special_in(written) if each not in end_ids)
        special = {encoder.text_of(each) for each in encoder.special_in(written)}
        tags = tuple(tag for tag in dict.fromkeys(_TAG.findall(written)) if tag not in special)
        if ids or tags:
            return cls(ids, tags)
        # The name of a role on a line of its own, such as "\nUser:"; a shorter text may be any.
        begin = rendered.partition(_ANSWER)[2].partition(_QUESTION)[0].rstrip()
        return cls(texts=(begin,) if begin.startswith("\n") and begin.strip() else ())
