"""What Triton says of its models: their tensors, and whether their answers can be streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from triton_bodies import ModelTensor
from triton_client import TritonClient


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model as its requests need to know it.

    Attributes:
        max_batch_size: of one request; 0 where its tensors have no dimension for the batch.
        decoupled: whether a request may have several responses, for which Triton refuses `infer`.
    """

    name: str
    inputs: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]
    max_batch_size: int
    decoupled: bool

    @classmethod
    def of(cls, config: Mapping[str, Any], *, decoupled: bool) -> ModelConfig:
        """Reads the configuration that Triton gives as JSON."""
        return cls(
            config["name"],
            _tensors(config.get("input", [])),
            _tensors(config.get("output", [])),
            config.get("max_batch_size", 0),
            decoupled,
        )


class ModelConfigs:
    """The models of a Triton server, each requested once.

    Args:
        triton: the client of Triton.
    """

    def __init__(self, triton: TritonClient) -> None:
        self._triton = triton
        self._known: dict[str, ModelConfig] = {}

    async def get(self, model: str) -> ModelConfig | None:
        """A model's configuration; None if Triton lacks the model.

        Raises:
            aiohttp.ClientError: Triton cannot be reached.
        """
        if model not in self._known:
            config = await self._triton.object(f"/v2/models/{model}/config")
            if config is None:
                return None
            self._known[model] = ModelConfig.of(config, decoupled=await self._decoupled(config))
        return self._known[model]

    async def _decoupled(self, config: Mapping[str, Any]) -> bool:
        """Whether a model is decoupled; an ensemble is as soon as one of its steps is."""
        if config.get("model_transaction_policy", {}).get("decoupled", False):
            return True
        for step in config.get("ensemble_scheduling", {}).get("step", []):
            model = await self.get(step["model_name"])
            if model and model.decoupled:
                return True
        return False


def _tensors(described: list[Mapping[str, Any]]) -> tuple[ModelTensor, ...]:
    return tuple(
        ModelTensor(
            each["name"], each["data_type"].removeprefix("TYPE_"), tuple(each.get("dims", ()))
        )
        for each in described
    )
