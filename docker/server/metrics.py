"""What the front counts, beside what Triton and the front model count themselves.

Tokens of all requests and the time to the first token as the model sees it are metrics of the front
model, on the same page: falconry_prompt_tokens_total, falconry_generated_tokens_total,
falconry_time_to_first_token_seconds. This module counts what the front sees.
"""

from __future__ import annotations

from admission import Admission
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

# From a tiny model's first token to the longest answer that OCI's gateway waits for.
_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The front's metrics.

    Args:
        admission: knows how many requests are under way and how many wait.
    """

    def __init__(self, admission: Admission) -> None:
        disable_created_metrics()  # a further series for each counter's creation time
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "falconry_front_requests",
            "Requests answered, by route and HTTP status; 499 where the client disconnected",
            ["route", "status"],
            registry=self._registry,
        )
        self._refused = Counter(
            "falconry_front_refused",
            "Requests refused, by the reason",
            ["reason"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "falconry_front_request_seconds",
            "From the arrival of a request to the end of its answer",
            ["route"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._first = Histogram(
            "falconry_front_first_text_seconds",
            "From the arrival of a request for a stream to its first text, waiting included",
            ["route"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._tokens = Counter(
            "falconry_front_openai_tokens",
            "Tokens of requests to OpenAI's API that were answered to their end",
            ["kind"],
            registry=self._registry,
        )
        in_flight = Gauge(
            "falconry_front_generations_in_flight",
            "Generations under way",
            registry=self._registry,
        )
        in_flight.set_function(lambda: admission.in_flight)
        queued = Gauge(
            "falconry_front_generations_queued",
            "Generations that wait for their turn",
            registry=self._registry,
        )
        queued.set_function(lambda: admission.queued)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request has had its answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def first_text(self, route: str, seconds: float) -> None:
        """A stream has had its first text."""
        self._first.labels(route).observe(seconds)

    def refused(self, reason: str) -> None:
        """A request was refused."""
        self._refused.labels(reason).inc()

    def tokens(self, prompt: int, completion: int) -> None:
        """A request's tokens are known."""
        self._tokens.labels("prompt").inc(prompt)
        self._tokens.labels("completion").inc(completion)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)
