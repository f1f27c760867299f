"""Asks a deployment in threads, and compares every answer with the right one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx

from falconry.cloud.session import Session
from falconry.deployment.deployments import Deployments
from falconry.endpoint.client import DeploymentClient, RetryBudget
from falconry.errors import FalconryError
from falconry.settings import load_settings
from scripts.soak.exchange import References

_CLIENTS = 3
_MAX_TOKENS = 200
# No request is sent again by the client: each failure counts.
_BUDGET = RetryBudget(connect=5.0, read=20.0, retries=0.0)
_PAUSE_S = 0.05


@dataclass
class Seen:
    """What the clients have met.

    Attributes:
        wrong: answers that are not the model's.
        failures: how often, by status or by kind of failure.
        last_failure: when the last one ended, of the monotonic clock.
        right_since: when the first right answer after it was asked for.
    """

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    last_failure: float = 0.0
    right_since: float | None = None


class Load:
    """Some clients of a deployment, until it is left as a context."""

    def __init__(self, checkout: Path, references: References, seed: int) -> None:
        self._checkout = checkout
        self._references = references
        self._seed = seed
        self._seen = Seen()
        self._lock = threading.Lock()
        self._ended = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[Load]:
        """Asks until the end of the context.

        Raises:
            FalconryError: nothing is deployed.
        """
        url, client = self._connect()
        threads = [
            threading.Thread(target=self._ask, args=(url, client, Random(self._seed + number)))
            for number in range(_CLIENTS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()
            client.close()

    def forget(self) -> None:
        """Counts anew."""
        with self._lock:
            self._seen = Seen(wrong=self._seen.wrong)

    def seen(self) -> Seen:
        """What was met since then, and every wrong answer."""
        with self._lock:
            now = self._seen
            return Seen(
                now.right, list(now.wrong), Counter(now.failures), now.last_failure, now.right_since
            )

    def wait_until_right(self, for_s: float, within_s: float) -> bool:
        """Waits until answers have been right for a while without a failure between."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            since = self.seen().right_since
            if since is not None and time.monotonic() - since >= for_s:
                return True
            time.sleep(_PAUSE_S)
        return False

    def _connect(self) -> tuple[str, DeploymentClient]:
        settings = load_settings(self._checkout)
        session = Session(settings.cloud)
        deployment = Deployments(session).in_use(settings.deployment.name)
        client = DeploymentClient(session.signer(), _BUDGET)
        return f"{deployment.model_deployment_url}/predict", client

    def _ask(self, url: str, client: DeploymentClient, chance: Random) -> None:
        while not self._ended.is_set():
            prompt, asked = self._references.prompt(chance), time.monotonic()
            failure, text = "", ""
            try:
                answer = client.post(url, json={"text_input": prompt, "max_tokens": _MAX_TOKENS})
                if answer.status_code == 200:
                    text = str(answer.json()["text_output"])
                else:
                    failure = str(answer.status_code)
            except (httpx.HTTPError, FalconryError, ValueError, KeyError) as error:
                failure = type(error).__name__
            self._count(prompt, text, failure, asked)
            if failure:
                time.sleep(_PAUSE_S)

    def _count(self, prompt: str, text: str, failure: str, asked: float) -> None:
        with self._lock:
            seen = self._seen
            if failure:
                seen.failures[failure] += 1
                seen.last_failure, seen.right_since = time.monotonic(), None
            elif text == self._references.answer(prompt):
                seen.right += 1
                seen.right_since = seen.right_since or asked
            else:
                seen.wrong.append(f"{prompt!r} was answered {text!r}")
