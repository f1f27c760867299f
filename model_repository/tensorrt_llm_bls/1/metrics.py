"""What the front model counts, on Triton's /metrics.

Every change of a metric is a round trip between this process and Triton, so changes are gathered
here and published together.
"""

import threading
from collections import Counter
from typing import Any

import triton_python_backend_utils as pb_utils

_FIRST_TOKEN_BUCKETS_S = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]
_TOKEN_BUCKETS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5]
_FINISH_REASONS = ("stop", "length", "cancelled", "error")


class Metrics:
    """Counts what happens; used from any thread."""

    def __init__(self) -> None:
        kinds = pb_utils.MetricFamily
        self._families: list[Any] = []
        self._prompt_tokens = self._metric(
            "falconry_prompt_tokens_total", "Tokens of the prompts taken", kinds.COUNTER
        )
        self._generated_tokens = self._metric(
            "falconry_generated_tokens_total", "Tokens generated", kinds.COUNTER
        )
        self._in_flight = self._metric(
            "falconry_requests_in_flight", "Requests without a final response", kinds.GAUGE
        )
        self._waiting = self._metric(
            "falconry_requests_waiting", "Requests without a first token", kinds.GAUGE
        )
        self._first_token = self._metric(
            "falconry_time_to_first_token_seconds",
            "From the arrival of a request to its first token",
            kinds.HISTOGRAM,
            buckets=_FIRST_TOKEN_BUCKETS_S,
        )
        self._per_token = self._metric(
            "falconry_time_per_output_token_seconds",
            "From an answer's first token to its last one, divided by the tokens after the first",
            kinds.HISTOGRAM,
            buckets=_TOKEN_BUCKETS_S,
        )
        finished = self._family(
            "falconry_requests_total", "Requests that have ended, by the reason", kinds.COUNTER
        )
        self._finished = {
            reason: finished.Metric(labels={"finish_reason": reason}) for reason in _FINISH_REASONS
        }
        self._lock = threading.Lock()
        self._counted: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._first_token_times: list[float] = []
        self._token_times: list[float] = []
        self._gauges = {"in_flight": 0, "waiting": 0}
        self._published: dict[str, int] = {}

    def begin(self, prompt_tokens: int) -> None:
        """A request has been taken."""
        with self._lock:
            self._counted["prompt"] += prompt_tokens
            self._gauges["in_flight"] += 1
            self._gauges["waiting"] += 1

    def first_token(self, seconds: float) -> None:
        """A request's first token has come."""
        with self._lock:
            self._gauges["waiting"] -= 1
            self._first_token_times.append(seconds)

    def tokens(self, count: int) -> None:
        """Tokens have come."""
        with self._lock:
            self._counted["generated"] += count

    def time_per_token(self, seconds: float) -> None:
        """An answer's tokens took so long each, after the first."""
        with self._lock:
            self._token_times.append(seconds)

    def end(self, reason: str, *, without_token: bool) -> None:
        """A request has had its final response."""
        with self._lock:
            self._gauges["in_flight"] -= 1
            self._gauges["waiting"] -= without_token
            self._ended[reason] += 1

    def publish(self) -> None:
        """Brings Triton's metrics up to date."""
        with self._lock:
            counted, self._counted = self._counted, Counter()
            ended, self._ended = self._ended, Counter()
            times, self._first_token_times = self._first_token_times, []
            token_times, self._token_times = self._token_times, []
            gauges = dict(self._gauges)
        if counted["prompt"]:
            self._prompt_tokens.increment(counted["prompt"])
        if counted["generated"]:
            self._generated_tokens.increment(counted["generated"])
        for reason, count in ended.items():
            self._finished[reason].increment(count)
        for seconds in times:
            self._first_token.observe(seconds)
        for seconds in token_times:
            self._per_token.observe(seconds)
        if gauges != self._published:
            self._in_flight.set(gauges["in_flight"])
            self._waiting.set(gauges["waiting"])
            self._published = gauges

    def _metric(self, name: str, description: str, kind: Any, **options: Any) -> Any:
        return self._family(name, description, kind).Metric(labels={}, **options)

    def _family(self, name: str, description: str, kind: Any) -> Any:
        """A family of metrics, which is there as long as this object."""
        family = pb_utils.MetricFamily(name=name, description=description, kind=kind)
        self._families.append(family)
        return family
