"""A grammar that admits any text without certain words, in xgrammar's EBNF."""

import json
from collections.abc import Sequence


def excluding(words: Sequence[str]) -> str:
    """The grammar of all texts that hold none of the words.

    Args:
        words: at least one, none of which contains another (xgrammar refuses such lists).
    """
    quoted = ",".join(json.dumps(word, ensure_ascii=False) for word in words)
    return (
        "root ::= TagDispatch(stop_eos=true,stop_str=(),loop_after_dispatch=false,"
        f"excludes=({quoted}))"
    )
