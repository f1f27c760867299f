"""Requests to a deployment: signed, complete or streamed, with refusals explained."""

from falconry.endpoint.endpoint import Endpoint
from falconry.endpoint.errors import RefusedError, StreamFailureError
from falconry.endpoint.openai_api import openai_client

__all__ = ["Endpoint", "RefusedError", "StreamFailureError", "openai_client"]
