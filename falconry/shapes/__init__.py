"""Advice on shapes: which hold an engine, and what they cost."""

from falconry.shapes.advice import Advice, advise
from falconry.shapes.candidates import Candidate
from falconry.shapes.prices import Prices, read_prices

__all__ = ["Advice", "Candidate", "Prices", "advise", "read_prices"]
