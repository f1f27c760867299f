"""Numbers within limits, as expressions of a grammar."""

from collections.abc import Iterator

# What a number of 64 bits holds exactly; more digits would have no end where a model repeats one.
_MOST_DIGITS = 15
_FRACTION = f'"." [0-9]{{1,{_MOST_DIGITS}}}'
_POSITIVE_FRACTION = f'"." [0-9]{{0,{_MOST_DIGITS - 1}}} [1-9]'
_NO_FRACTION = '"." "0"'
_EXPONENT = "([eE] [+-]? [0-9]{1,2})?"
_LARGEST = 10**_MOST_DIGITS - 1


def number_forms(
    low: int | None,
    high: int | None,
    *,
    integer: bool = False,
    open_low: bool = False,
    open_high: bool = False,
) -> str:
    """The numbers from `low` to `high`, as alternatives; empty where there is none.

    Args:
        low: the least; None without.
        high: the greatest; None without.
        integer: whether they have no fraction.
        open_low: whether `low` itself is not among them.
        open_high: whether `high` itself is not among them.
    """
    if low is None and high is None:
        digits = f'"-"? ("0" | [1-9] [0-9]{{0,{_MOST_DIGITS - 1}}})'
        return digits if integer else f"{digits} ({_FRACTION})? {_EXPONENT}"
    least = -_LARGEST if low is None else int(low)
    most = _LARGEST if high is None else int(high)
    forms = []
    if most >= 0:
        forms += _magnitudes(max(least, 0), most, integer, open_low and least >= 0, open_high)
    if least < 0:
        forms += [
            f'"-" ({form})'
            for form in _magnitudes(
                max(-most, 0), -least, integer, open_high and most <= 0, open_low
            )
            if form != '"0"'  # there is no -0
        ]
    return " | ".join(forms)


def _magnitudes(
    low: int, high: int, integer: bool, open_low: bool, open_high: bool
) -> Iterator[str]:
    """Numbers from one that is not negative to a greater one."""
    if low > high:
        return
    if integer:
        yield from _integers(low, high)
        return
    if not open_low and (low < high or not open_high):
        yield f'"{low}" ({_NO_FRACTION})?'
    if low < high:
        yield f'"{low}" {_POSITIVE_FRACTION}'
        if low + 1 < high:
            yield f"({' | '.join(_integers(low + 1, high - 1))}) ({_FRACTION})?"
        if not open_high:
            yield f'"{high}" ({_NO_FRACTION})?'


def _integers(low: int, high: int) -> Iterator[str]:
    """Whole numbers from one to another: beginnings, each with any digits after it."""
    while low <= high:
        # The greatest block of ten, hundred, ... numbers that begins here and ends in time.
        size = 1
        while low and low % (size * 10) == 0 and low + size * 10 - 1 <= high and size * 10 <= low:
            size *= 10
        # And as many of these blocks as have the same digits before them.
        last = low // size % 10
        count = min(9 - last, (high - low + 1) // size - 1)
        before = str(low // size)[:-1]
        digit = f"[{last}-{last + count}]" if count else f'"{last}"'
        zeros = len(str(size)) - 1
        yield " ".join(
            part
            for part in (
                f'"{before}"' if before else "",
                digit,
                f"[0-9]{{{zeros}}}" if zeros else "",
            )
            if part
        )
        low += size * (count + 1)
