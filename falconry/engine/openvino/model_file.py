"""Writes OpenVINO models reproducibly, byte for byte."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import openvino as ov

from falconry.errors import MachineError

# Ends the names of Convert nodes that widen weights stored in fewer bits than they are used in.
WIDENED = "/widened"

# A name made by OpenVINO: an operation and a number, and what its passes append.
_NUMBERED = re.compile(r"[A-Za-z0-9]+_\d+(\.\d+)?")


def write_model(model: ov.Model, path: Path) -> None:
    """Writes a model's XML, and its weights beside it as .bin."""
    _name_stably(model)
    try:
        ov.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise MachineError(
            f"could not be written ({str(error).splitlines()[0]})",
            where=path,
            remedy="free some disk space and run again",
        ) from error
    if any(node.get_friendly_name().endswith(WIDENED) for node in model.get_ops()):
        _mark_widening(path)


def _mark_widening(path: Path) -> None:
    """Marks Convert nodes named with WIDENED as decompression of weights.

    Without the mark OpenVINO's CPU plugin widens such weights once and for all when it loads the
    model, which takes twice the memory and half the speed. Its Python interface cannot set the
    mark, so it is put into the XML as save_model(compress_to_fp16=True) writes it.
    (openvino 2026.4, transformations/rt_info/decompression.hpp.)
    """
    tree = ET.parse(path)
    for layer in tree.iterfind("layers/layer[@type='Convert']"):
        if layer.get("name", "").endswith(WIDENED):
            mark = ET.Element("rt_info")
            ET.SubElement(mark, "attribute", {"name": "decompression", "version": "0"})
            layer.insert(1, mark)
    tree.write(path, encoding="utf-8", xml_declaration=True)


def _name_stably(model: ov.Model) -> None:
    """Replaces OpenVINO's process-wide numbers in names by the nodes' own."""
    for number, node in enumerate(model.get_ordered_ops()):
        stable = f"{node.get_type_name()}_{number}"
        if _NUMBERED.fullmatch(node.get_friendly_name()):
            node.set_friendly_name(stable)
        for output in node.outputs():
            names = output.get_names()
            output.set_names({stable if _NUMBERED.fullmatch(name) else name for name in names})
