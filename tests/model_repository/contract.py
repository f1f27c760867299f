"""How the tests of the served contract ask a server."""

import json
from dataclasses import dataclass

import requests

from falconry.repository import FRONT_MODEL
from tests.model_repository.streams import stream_events

CLOUD = "Explain Cloud Computing to a school kid"


@dataclass(frozen=True)
class Server:
    """A Triton that serves the assembled repository.

    Attributes:
        kind: `cpu` for the CPU engine, or the release whose backend a stand-in stands for.
        seed: what this release calls the seed.
        max_input_len: tokens of a prompt.
    """

    url: str
    kind: str
    seed: str = "seed"
    max_input_len: int = 511

    @property
    def compares_text(self) -> bool:
        """Whether stop words are found in the text; NVIDIA's backend compares tokens."""
        return self.kind == "cpu"

    def post(self, body, path="generate", model="ensemble"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return requests.post(f"{self.url}/v2/models/{model}/{path}", data=data, timeout=60)

    def generate(self, prompt=CLOUD, max_tokens=128, **options):
        response = self.post({"text_input": prompt, "max_tokens": max_tokens, **options})
        assert response.status_code == 200, response.text
        return response.json()

    def text(self, prompt=CLOUD, max_tokens=128, **options):
        return self.generate(prompt, max_tokens, **options)["text_output"]

    def stream(self, **body):
        """The texts of a stream's events."""
        events = stream_events(self.url, "ensemble", {"stream": True, **body})
        return [event["text_output"] for event in events]

    def log_probs(self, **options):
        """Tokens with their log-probabilities, as the front model gives them."""
        body = {"text_input": CLOUD, "max_tokens": 128, "return_log_probs": True, **options}
        if options.get("stream"):
            answers = list(stream_events(self.url, FRONT_MODEL, body))
        else:
            answers = [self.post(body, model=FRONT_MODEL).json()]
        return [
            (bytes.fromhex(token), value)
            for answer in answers
            for token, value in zip(
                _listed(answer["output_tokens"]), _listed(answer["output_log_probs"]), strict=True
            )
        ]


def _listed(value):
    """Triton writes a tensor of one element as that element."""
    return value if isinstance(value, list) else [value]
