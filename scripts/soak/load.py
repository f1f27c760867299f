"""The load: many clients in one process, each with one mixed request after the other.

`python -m scripts.soak.load` writes a line of JSON a second, and at its end one with everything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from random import Random

import aiohttp
import tritonclient.grpc.aio
import tritonclient.http.aio

from scripts.soak import http_requests, triton_requests
from scripts.soak.exchange import Clients, Exchange, References, WrongError

EXCHANGES = (*http_requests.EXCHANGES, *triton_requests.EXCHANGES)
CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "tiny-falcon"
# With all slots of the engine taken, a request waits for several others to end.
_ANSWER_DEADLINE_S = 60
_MOST_WRONG_LISTED = 20


@dataclass(slots=True)
class Tally:
    """The outcomes of the requests.

    Attributes:
        seconds: how long it took, the last answers included.
        ended: how many ended as expected, by the name of their exchange.
        wrong: the first ones that did not, each with its exchange's name.
        wrong_count: how many did not.
        first_token_s: from a stream's request to its first text, over HTTP.
    """

    seconds: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    wrong_count: int = 0
    first_token_s: list[float] = field(default_factory=list)

    @classmethod
    def from_json(cls, text: str) -> Tally:
        """Reads what `to_json` wrote."""
        values = json.loads(text)
        return cls(**{**values, "ended": Counter(values["ended"])})

    def to_json(self) -> str:
        """All of it on one line."""
        return json.dumps({each.name: getattr(self, each.name) for each in fields(self)})

    @property
    def requests(self) -> int:
        """All of them."""
        return self.ended.total() + self.wrong_count

    def outcomes(self) -> dict[str, int]:
        """How many ended as expected, by outcome."""
        counted: Counter[str] = Counter()
        for exchange in EXCHANGES:
            counted[exchange.outcome] += self.ended[exchange.name]
        return dict(counted)

    async def note(self, exchange: Exchange, clients: Clients) -> None:
        """Sends one request and notes its outcome."""
        try:
            async with asyncio.timeout(_ANSWER_DEADLINE_S):
                await exchange.send(clients)
        except TimeoutError:
            self._is_wrong(exchange, f"no answer in {_ANSWER_DEADLINE_S} s")
        except WrongError as error:
            self._is_wrong(exchange, str(error))
        except Exception as error:  # whatever it is, the answer is not correct
            self._is_wrong(exchange, repr(error))
        else:
            self.ended[exchange.name] += 1

    def _is_wrong(self, exchange: Exchange, what: str) -> None:
        self.wrong_count += 1
        if len(self.wrong) < _MOST_WRONG_LISTED:
            self.wrong.append(f"{exchange.name}: {what}")


async def load(url: str, grpc: str, seconds: float, concurrency: int, seed: int) -> Tally:
    """Sends requests for a time, and waits for the last answers.

    Args:
        url: its HTTP.
        grpc: `HOST:PORT` of its gRPC.
        seconds: how long new requests are sent.
        concurrency: requests under way at any time.
        seed: decides which requests are sent.
    """
    timeout = aiohttp.ClientTimeout(total=None)
    chance, references, tally = Random(seed), References(CHECKPOINT), Tally()
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as http,
        tritonclient.http.aio.InferenceServerClient(
            url.removeprefix("http://"), conn_limit=concurrency
        ) as triton_http,
        tritonclient.grpc.aio.InferenceServerClient(grpc) as triton_grpc,
    ):
        clients = Clients(
            url, http, triton_http, triton_grpc, references, chance, tally.first_token_s
        )
        started = time.monotonic()

        async def send_requests() -> None:
            while time.monotonic() < started + seconds:
                await tally.note(_chosen(chance), clients)

        reporting = asyncio.create_task(_report(tally, started))
        await asyncio.gather(*(send_requests() for _ in range(concurrency)))
        reporting.cancel()
        tally.seconds = time.monotonic() - started
    return tally


def _chosen(chance: Random) -> Exchange:
    return chance.choices(EXCHANGES, [each.share for each in EXCHANGES])[0]


async def _report(tally: Tally, started: float) -> None:
    while True:
        await asyncio.sleep(1)
        state = {"seconds": time.monotonic() - started, "requests": tally.requests}
        print(json.dumps({**state, "wrong_count": tally.wrong_count}), flush=True)


def main() -> None:
    """Puts the load on a server that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m scripts.soak.load", description=__doc__)
    parser.add_argument("--url", required=True, help="the server's HTTP")
    parser.add_argument("--grpc", required=True, help="HOST:PORT of its gRPC")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0, help="decides which requests are sent")
    options = parser.parse_args()
    tally = asyncio.run(
        load(options.url, options.grpc, options.seconds, options.concurrency, options.seed)
    )
    print(tally.to_json(), flush=True)


if __name__ == "__main__":
    main()
