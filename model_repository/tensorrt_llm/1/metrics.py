"""The metrics that dashboards read of NVIDIA's backend, on Triton's /metrics.

Names and labels are those of TensorRT-LLM (0d5352f5, triton_backend/inflight_batcher_llm/src/
custom_metrics_reporter/custom_metrics_reporter.cc), where they mean something on this engine: it
has no GPU memory, no micro batches, and pauses no requests.
"""

import threading
import time
from typing import Any

import triton_python_backend_utils as pb_utils

from .engine import Engine

_PERIOD_S = 0.5
# The families, and of each the label that tells its metrics apart.
_FAMILIES = {
    "request": ("TRT LLM request metrics", "request_type"),
    "runtime_memory": ("TRT LLM runtime memory metrics", "memory_type"),
    "kv_cache_block": ("TRT LLM KV cache block metrics", "kv_cache_block_type"),
    "inflight_batcher": (
        "TRT LLM inflight_batcher-specific metrics",
        "inflight_batcher_specific_metric",
    ),
    "general": ("General TRT LLM metrics", "general_type"),
}


class Metrics:
    """Publishes what an engine does, from a thread of its own.

    Args:
        model: the model's name, a label.
        version: the model's version, a label.
        engine: tells what it does.
    """

    def __init__(self, model: str, version: str, engine: Engine) -> None:
        self._labels = {"model": model, "version": version}
        self._engine = engine
        self._families = {
            name: pb_utils.MetricFamily(
                name=f"nv_trt_llm_{name}_metrics",
                description=description,
                kind=pb_utils.MetricFamily.GAUGE,
            )
            for name, (description, _) in _FAMILIES.items()
        }
        self._metrics: dict[tuple[str, str], Any] = {}
        self._published: dict[tuple[str, str], float] = {}
        self._end = threading.Event()
        self._publish()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._end.set()
        self._thread.join(timeout=1)  # a thread that waits for a crashed Triton never ends

    def _run(self) -> None:
        while not self._end.wait(_PERIOD_S):
            self._publish()

    def _publish(self) -> None:
        """Sets what has changed: each change is a round trip to Triton."""
        values = self._values()
        changed = {key: value for key, value in values.items() if self._published.get(key) != value}
        self._published = values
        if not changed:
            return
        changed["general", "timestamp"] = int(time.time() * 1_000_000)
        for key, value in changed.items():
            if key not in self._metrics:
                self._metrics[key] = self._metric(*key)
            self._metrics[key].set(value)

    def _metric(self, family: str, kind: str) -> Any:
        labels = {**self._labels, _FAMILIES[family][1]: kind}
        return self._families[family].Metric(labels=labels)

    def _values(self) -> dict[tuple[str, str], float]:
        engine, now = self._engine, self._engine.statistics()
        blocks = engine.cache_blocks
        return {
            ("request", "active"): now.running + now.waiting,
            ("request", "max"): engine.max_requests,
            ("request", "scheduled"): now.running,
            ("request", "context"): now.context,
            ("request", "waiting"): now.waiting,
            ("runtime_memory", "cpu"): now.cache_bytes,
            ("kv_cache_block", "max"): blocks,
            ("kv_cache_block", "free"): blocks - now.used_blocks,
            ("kv_cache_block", "used"): now.used_blocks,
            ("kv_cache_block", "tokens_per"): engine.block_tokens,
            ("kv_cache_block", "fraction"): now.used_blocks / blocks if blocks else 0.0,
            ("inflight_batcher", "generation_requests"): now.running - now.context,
            ("inflight_batcher", "total_context_tokens"): now.context_tokens,
            ("general", "iteration_counter"): now.steps,
        }
