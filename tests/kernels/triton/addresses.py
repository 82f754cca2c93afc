"""Find parts of an address that a Triton kernel multiplies in 32 bits."""

from __future__ import annotations

import re
import tempfile
from typing import Any

from triton._C.libtriton import ir

_SHAPES = {"tt.splat", "tt.broadcast", "tt.expand_dims", "tt.reshape", "tt.trans", "tt.unsplat"}
_EXTENSIONS = {"arith.extsi", "arith.extui"}
_PRODUCTS = {"arith.muli", "arith.shli"}
_SUMS = {"arith.addi", "arith.subi"}
_CONSTANTS = {"arith.constant", "tt.make_range"}
_BOUNDS = {"arith.cmpi", "arith.minsi", "arith.minui"}
_READ = {"tt.load", "arith.cmpi"}


class _Value:
    """An SSA value: the operation that makes it, and what that operation reads."""

    def __init__(self, op: str, kind: str, where: str) -> None:
        self.op = op
        self.is_wide = kind == "i64" or kind.endswith("xi64>")
        self.where = where
        self.sources: list[_Value] = []
        self.is_position = op in _READ

    def is_constant(self) -> bool:
        """Tell whether only constants and ranges went into it."""
        if self.op in _CONSTANTS:
            return True
        known = self.op in _PRODUCTS | _SUMS | _SHAPES
        return known and all(source.is_constant() for source in self.sources)


def narrow_products(ttir: str) -> list[str]:
    """Products of an address that the kernel computes in 32 bits, as ``file:line op``.

    What is computed in 32 bits must be a position: built of program ids, loop variables, loaded
    indices and ranges without a product, or compared with a bound, as a mask does with
    ``program_id * BLOCK + arange``. A product that nothing bounds (``row * channels``) overflows
    unnoticed on a large tensor, whether or not its result is extended to 64 bits.
    """
    values = _values(ttir)
    for value in values:
        if value.op in _BOUNDS:
            for source in value.sources:
                _mark(source)
    found: dict[str, None] = {}
    seen: set[int] = set()
    stack = [value.sources[1] for value in values if value.op == "tt.addptr"]
    while stack:
        value = stack.pop()
        if id(value) in seen or value.is_position:
            continue
        seen.add(id(value))
        if value.op in _PRODUCTS and not value.is_wide and not value.is_constant():
            found[f"{value.where} {value.op}"] = None
        else:
            stack.extend(value.sources)
    return sorted(found)


def _mark(compared: _Value) -> None:
    """A value that is compared with a bound is a position, in every shape and width of it."""
    while compared.op in _SHAPES | _EXTENSIONS:
        compared = compared.sources[0]
    # row * channels < size does not bound it: the product has overflowed before.
    tile_start = any(source.is_constant() for source in compared.sources)
    if compared.op not in _PRODUCTS or tile_start:
        compared.is_position = True


def _values(ttir: str) -> list[_Value]:
    """Every value of the module, with what flows round loops and out of branches."""
    context = ir.context()
    ir.load_dialects(context)
    with tempfile.NamedTemporaryFile("w", suffix=".ttir") as file:
        file.write(ttir)
        file.flush()
        module = ir.parse_mlir_module(file.name, context)
    operations: list[Any] = []
    module.walk(operations.append)

    values: dict[int, _Value] = {}

    def value_of(handle: Any) -> _Value:
        return values.setdefault(handle.id(), _Value("argument", str(handle.get_type()), ""))

    # Results come first: in a loop an operation may read what a later one makes.
    for op in operations:
        for result in _results(op):
            name, where = op.get_name(), _where(str(result.get_loc()))
            values[result.id()] = _Value(name, str(result.get_type()), where)
    for op in operations:
        operands = [value_of(op.get_operand(i)) for i in range(op.get_num_operands())]
        for result in _results(op):
            values[result.id()].sources += operands

    regions = {
        op.get_region(i).id(): (op, i) for op in operations for i in range(op.get_num_regions())
    }
    arguments = {}  # of the block of every loop's and branch's region
    for op in operations:
        block = op.get_block()
        if block is not None:
            region = block.get_parent().id()
            owned = [value_of(block.get_argument(i)) for i in range(block.get_num_arguments())]
            arguments[region] = owned
    for region, inside in arguments.items():
        owner, which = regions[region]
        inputs = [value_of(owner.get_operand(i)) for i in range(owner.get_num_operands())]
        if owner.get_name() == "scf.for":
            inside[0].is_position = True
            _flow(inputs[3:], inside[1:])
        elif owner.get_name() == "scf.while" and which == 0:
            _flow(inputs, inside)
    for op in operations:
        if op.get_name() not in ("scf.yield", "scf.condition"):
            continue
        owner, _ = regions[op.get_block().get_parent().id()]
        name = owner.get_name()
        results = [values[result.id()] for result in _results(owner)]
        handed = [value_of(op.get_operand(i)) for i in range(op.get_num_operands())]
        if name == "scf.for":
            _flow(handed, results)
            _flow(handed, arguments[owner.get_region(0).id()][1:])
        elif name == "scf.while" and op.get_name() == "scf.condition":
            _flow(handed[1:], results)
            _flow(handed[1:], arguments[owner.get_region(1).id()])
        elif name == "scf.while":
            _flow(handed, arguments[owner.get_region(0).id()])
        else:
            _flow(handed, results)
    return list(values.values())


def _flow(sources: list[_Value], targets: list[_Value]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.sources.append(source)


def _results(op: Any) -> list[Any]:
    return [op.get_result(i) for i in range(op.get_num_results())]


def _where(location: str) -> str:
    """``file.py:line`` of the outermost call in a location."""
    places = re.findall(r'"([^"]*/)?([^"/]+\.py)":(\d+)', location)
    return f"{places[-1][1]}:{places[-1][2]}" if places else "?"
