"""The user's price table: Oracle's prices change and differ by contract.

currency = "USD"
source = "price list of 2026-11"
[shape_hour]                    # of a complete shape; wins over the others
"BM.GPU.H100.8" = 80.0
[gpu_hour]                      # of a GPU, by the GPU's name or a shape's
"NVIDIA A10" = 2.0
[ocpu_hour]                     # of flexible shapes, with [gib_hour]
"VM.Standard.E4.Flex" = 0.025
[gib_hour]
"VM.Standard.E4.Flex" = 0.0015
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from falconry.data_files import Table, load_table
from falconry.errors import SettingsError
from falconry.oci_facts import CpuShape, GpuShape, find_shape, load_cpu_shapes, load_shapes

_Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Prices(Table, strict=False):
    """Prices an hour, in one currency.

    Attributes:
        shape_hour: of complete shapes.
        gpu_hour: of a GPU, by its name or its shape's.
        ocpu_hour, gib_hour: of flexible shapes.
    """

    currency: str
    source: str = ""
    shape_hour: Mapping[str, _Price] = {}
    gpu_hour: Mapping[str, _Price] = {}
    ocpu_hour: Mapping[str, _Price] = {}
    gib_hour: Mapping[str, _Price] = {}

    def of_gpus(self, shape: GpuShape) -> float | None:
        """A GPU shape's price an hour, if it is known."""
        price = self.shape_hour.get(shape.name)
        if price is not None:
            return price
        each = self.gpu_hour.get(shape.name, self.gpu_hour.get(shape.gpu))
        return None if each is None else each * shape.gpus

    def of_cpus(self, shape: CpuShape, ocpus: float, memory_gib: float) -> float | None:
        """A CPU shape's price an hour, if it is known."""
        price = self.shape_hour.get(shape.name)
        if price is not None or not shape.flexible:
            return price
        ocpu, gib = self.ocpu_hour.get(shape.name), self.gib_hour.get(shape.name)
        return None if ocpu is None or gib is None else ocpu * ocpus + gib * memory_gib

    def of_instance(self, name: str, ocpus: float | None, memory_gib: float | None) -> float | None:
        """The price an hour of one instance of a deployment, if it is known."""
        shape = find_shape(name)
        if isinstance(shape, GpuShape):
            return self.of_gpus(shape)
        if isinstance(shape, CpuShape) and ocpus is not None and memory_gib is not None:
            return self.of_cpus(shape, ocpus, memory_gib)
        return self.shape_hour.get(name)


def read_prices(path: Path) -> Prices:
    """A price table."""
    prices = load_table(path, Prices)
    gpus = load_shapes()
    flexible = {shape.name for shape in load_cpu_shapes() if shape.flexible}
    unknown = {
        *(name for name in prices.shape_hour if not _is_known(name)),
        *(set(prices.gpu_hour) - {shape.gpu for shape in gpus}),
        *((set(prices.ocpu_hour) | set(prices.gib_hour)) - flexible),
    }
    if unknown:
        raise SettingsError(
            f"prices what is not in engine/shapes.toml: {', '.join(sorted(unknown))}",
            where=path,
            remedy="spell names as they are spelled there",
        )
    return prices


def _is_known(name: str) -> bool:
    """Whether the table has a shape in this spelling, which prices are looked up by."""
    shape = find_shape(name)
    return shape is not None and shape.name == name
