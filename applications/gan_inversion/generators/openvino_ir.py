"""Read OpenVINO IR files (an XML graph and a binary of constants) with numpy alone.

Only what a weight loader needs: nodes, their constants, and who feeds whom. Nothing in the
files is executed.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import CheckpointError

_DTYPES = {"f32": np.float32, "f16": np.float16, "i64": np.int64, "i32": np.int32}


@dataclass
class Node:
    """One operation of the graph; ``value`` is set for constants only."""

    id: int
    name: str
    type: str
    inputs: dict[int, int] = field(default_factory=dict)  # input port -> feeding node's id
    value: np.ndarray | None = None


class Graph:
    """The nodes of an IR file, addressable by id, by name and by position in the graph."""

    def __init__(self, nodes: dict[int, Node], path: Path) -> None:
        self.nodes = nodes
        self.path = path
        self.by_name = {node.name: node for node in nodes.values()}
        self.consumers: dict[int, list[Node]] = {}
        for node in nodes.values():
            for source in node.inputs.values():
                self.consumers.setdefault(source, []).append(node)

    def constant(self, name: str) -> np.ndarray:
        """Return the constant called ``name``."""
        node = self.by_name.get(name)
        if node is None or node.value is None:
            raise CheckpointError(f"{self.path}: no constant named {name!r} in the graph")
        return node.value

    def input(self, node: Node, port: int) -> Node:
        """Return the node that feeds ``port`` of ``node``."""
        return self.nodes[node.inputs[port]]

    def constant_input(self, node: Node) -> np.ndarray:
        """Return the value of the one input of ``node`` that is a constant."""
        values = [self.nodes[i].value for i in node.inputs.values()]
        constants = [v for v in values if v is not None]
        if len(constants) != 1:
            raise CheckpointError(
                f"{self.path}: node {node.name!r} must have one constant input, "
                f"got {len(constants)}"
            )
        return constants[0]

    def of_type(self, kind: str) -> list[Node]:
        """Return all nodes of a type in the order of the graph."""
        return [node for _, node in sorted(self.nodes.items()) if node.type == kind]


def read_ir(xml_path: Path, bin_path: Path) -> Graph:
    """Parse an IR pair.

    Raises:
        CheckpointError: not an IR file, unknown element type, or constants outside the binary.
    """
    try:
        root = ElementTree.parse(xml_path).getroot()
    except ElementTree.ParseError as error:
        raise CheckpointError(f"{xml_path}: not an OpenVINO IR file ({error})") from error
    layers, edges = root.find("layers"), root.find("edges")
    if layers is None or edges is None:
        raise CheckpointError(f"{xml_path}: not an OpenVINO IR file (no <layers> or no <edges>)")
    blob = bin_path.read_bytes()
    nodes: dict[int, Node] = {}
    for layer in layers:
        node = Node(int(layer.attrib["id"]), layer.attrib["name"], layer.attrib["type"])
        data = layer.find("data")
        if node.type == "Const" and data is not None:
            kind = data.attrib["element_type"]
            offset, size = int(data.attrib["offset"]), int(data.attrib["size"])
            if kind not in _DTYPES or offset + size > len(blob):
                raise CheckpointError(
                    f"{xml_path}: constant {node.name!r} ({kind}, {size} bytes at {offset}) "
                    f"does not fit {bin_path.name} of {len(blob)} bytes"
                )
            shape = [int(s) for s in data.attrib["shape"].split(",") if s.strip()]
            flat = np.frombuffer(
                blob, _DTYPES[kind], size // np.dtype(_DTYPES[kind]).itemsize, offset
            )
            node.value = flat.reshape(shape)
        nodes[node.id] = node
    for edge in edges:
        target = nodes[int(edge.attrib["to-layer"])]
        target.inputs[int(edge.attrib["to-port"])] = int(edge.attrib["from-layer"])
    return Graph(nodes, xml_path)
