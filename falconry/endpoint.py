"""Questions to a deployment: signed requests, answers as text, refusals as one sentence."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Literal

import requests
from oci.signer import Signer

from falconry.errors import EndpointError

Route = Literal["generate", "infer"]

MODEL_HEADERS = {"model_name": "ensemble", "model_version": "1"}
# OCI ends a `/predict` after 60 s and that cannot be changed (Oracle, "Invoking a Model
# Deployment"); the rest is for its own answer to arrive.
_TIMEOUT_S = (10.0, 75.0)
_SMOKE_DEADLINE_S = 120.0
_NOT_YET = frozenset({429, 502, 503})
_REMEDIES = {
    401: "check the key, the user and the clock of this machine",
    404: "the deployment or its policy is missing: see make status",
    413: "OCI takes requests of 10 MB at most: send a shorter one",
    429: "too many requests at a time: wait, or raise the bandwidth of the deployment",
    503: "the server is not ready: see make logs",
}


class Endpoint:
    """One deployment, as its clients see it.

    Args:
        url: the deployment's URL, without `/predict`.
        signer: signs the requests.
        route: what the deployment maps `/predict` to, which decides the form of the body.
    """

    def __init__(self, url: str, signer: Signer, route: Route) -> None:
        self._url = url.rstrip("/")
        self._route = route
        self._session = requests.Session()
        self._session.auth = signer
        if url.startswith("http://127.0.0.1"):
            # A proxy named in the environment knows nothing of our loopback.
            self._session.trust_env = False

    def answer(self, prompt: str, max_tokens: int) -> str:
        """The text that follows a prompt, greedily.

        Raises:
            EndpointError: the request was refused or got no answer.
        """
        return self.text_of(self.predict(self.body(prompt, max_tokens)))

    def body(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        """A request in the form that the route takes."""
        if self._route == "generate":
            return {"text_input": prompt, "max_tokens": max_tokens}
        return {
            "inputs": [
                _tensor("text_input", "BYTES", prompt),
                _tensor("max_tokens", "INT32", max_tokens),
            ]
        }

    def predict(
        self, body: Mapping[str, Any], headers: Mapping[str, str] = MODEL_HEADERS
    ) -> dict[str, Any]:
        """Sends any body to `/predict` and gives the JSON of the answer. Never sent twice.

        Raises:
            EndpointError: the request was refused, or the answer is not a JSON object.
        """
        response = self._post("predict", body, headers)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EndpointError("the answer is not a JSON object", where=self._url)
        return answer

    def text_of(self, answer: Mapping[str, Any]) -> str:
        """The text in an answer of either route.

        Raises:
            EndpointError: there is none.
        """
        if "text_output" in answer:
            return str(answer["text_output"])
        for tensor in answer.get("outputs", []):
            if tensor.get("name") == "text_output":
                return str(tensor["data"][0])
        raise EndpointError(f"there is no text_output in {json.dumps(answer)}", where=self._url)

    def smoke(self) -> None:
        """Asks for one token, waiting while the server is still starting.

        Raises:
            EndpointError: it refuses, or does not answer in two minutes.
        """
        deadline = time.monotonic() + _SMOKE_DEADLINE_S
        while True:
            try:
                self.answer("Hello", 1)
            except RefusedError as refusal:
                if refusal.status not in _NOT_YET or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def _post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> requests.Response:
        url = f"{self._url}/{path}"
        try:
            response = self._session.post(
                url,
                data=json.dumps(body, ensure_ascii=False).encode("utf-8"),
                headers={"content-type": "application/json", **headers},
                timeout=_TIMEOUT_S,
            )
        except requests.RequestException as error:
            raise EndpointError(
                f"no answer ({type(error).__name__})",
                where=url,
                remedy="see make status, or run make deploy",
            ) from None
        if not response.ok:
            raise RefusedError(url, response)
        return response


class RefusedError(EndpointError):
    """An answer that is not 2xx; `status` is the HTTP status."""

    def __init__(self, url: str, response: requests.Response) -> None:
        self.status = response.status_code
        super().__init__(
            f"refused with {self.status}: {_reason(response)}",
            where=url,
            remedy=_REMEDIES.get(self.status),
        )


def _reason(response: requests.Response) -> str:
    """What Triton (`error`) or OCI (`message`) says, or the text as it came."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        for name in ("error", "message"):
            if name in body:
                return str(body[name])
    return response.text.strip() or response.reason


def _tensor(name: str, datatype: str, value: str | int) -> dict[str, Any]:
    return {"name": name, "shape": [1, 1], "datatype": datatype, "data": [value]}
