"""Whether a server is at rest after a load: nothing under way, nothing kept, every slot free."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from scripts.soak.exchange import FRONT_MODEL, LONG_TOKENS, NO_END
from scripts.soak.holdings import cpu_seconds
from scripts.soak.server import Server

# Requests under way or waiting, in Triton, in the front model and in the front.
_GAUGES = (
    "falconry_requests_in_flight",
    "falconry_requests_waiting",
    "falconry_front_generations_in_flight",
    "falconry_front_generations_queued",
    "nv_inference_pending_request_count",
)
_REST_DEADLINE_S = 15.0
_SETTLING_S = 2.0
# An engine with a request in it takes a whole core; the front's and the front model's watching of
# an idle server some thousandths.
_IDLE_CPU = 0.25
_TURN_DEADLINE_S = 60


def come_to_rest(server: Server) -> list[str]:
    """Waits until nothing is under way; gives what still is."""
    deadline = time.monotonic() + _REST_DEADLINE_S
    while (busy := _busy(server.metrics())) and time.monotonic() < deadline:
        time.sleep(0.2)
    before, started = cpu_seconds(server.triton.pid), time.monotonic()
    time.sleep(_SETTLING_S)
    share = (cpu_seconds(server.triton.pid) - before) / (time.monotonic() - started)
    if share > _IDLE_CPU:
        busy.append(f"the idle server takes {share:.0%} of a core: something is still generated")
    return busy


def _busy(metrics: Mapping[str, float]) -> list[str]:
    # A gauge that is missing would always be 0.
    return [f"{name} is {metrics.get(name)}" for name in _GAUGES if metrics.get(name) != 0]


def free_slots(server: Server) -> int:
    """How many requests the engine answers at a time, of as many as it was built for.

    They are counted whose first text comes before any of them ends; who has to wait for a slot
    that somebody has kept gets his only after that.
    """
    ended = threading.Event()

    def in_time() -> bool:
        with urllib.request.urlopen(_long_stream(server), timeout=_TURN_DEADLINE_S) as answer:
            answer.readline()
            begun_in_time = not ended.is_set()
            answer.read()
        ended.set()
        return begun_in_time

    with ThreadPoolExecutor(server.slots) as pool:
        return sum(each.result() for each in [pool.submit(in_time) for _ in range(server.slots)])


def _long_stream(server: Server) -> urllib.request.Request:
    body = {"text_input": "A", "max_tokens": LONG_TOKENS, "end_id": NO_END, "stream": True}
    path = f"/v2/models/{FRONT_MODEL}/generate_stream"
    return urllib.request.Request(f"{server.triton.url}{path}", json.dumps(body).encode())
