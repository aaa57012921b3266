"""Build one graph of Apple's Core AI dialect: inputs, constants, operations, outputs; then its bytecode.

Operations are made one by one through the generic constructor of the package's own bindings, with the types of their
results stated, and verified together at the end. That is a tenth of the time that the package's decorated Python
functions take, and needs none of the modules that they import.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.errors import EmitError, MissingExtraError
from compiler.filemap import release
from compiler.order import in_order
from compiler.tensor import Array
from targets.coreai.dtypes import TYPES, pack_bits, type_of

if TYPE_CHECKING:
    from coreai._compiler.ir import Operation, Value

Handle = Any  # a value of the package's bindings, which come without types
DIALECT = 20260409  # the version of the dialect that iOS and macOS 27 read
BYTECODE = 6
ENTRY = "main"
REFERENCED = 1 << 12  # bytes from which on a constant is not copied
LARGE = 1 << 10  # elements from which on a constant is known by its array, not by its contents


class Var:
    """A tensor of the program. `value` is its data if it is a constant, else None."""

    __slots__ = ("dtype", "handle", "shape", "value")

    def __init__(self, handle: Handle, dtype: str, shape: tuple[int, ...], value: Array | None = None) -> None:
        self.handle, self.dtype, self.shape, self.value = handle, dtype, shape, value

    @property
    def nbytes(self) -> int:
        """Of its elements, packed."""
        return (prod(self.shape) * TYPES[self.dtype].bits + 7) // 8

    def __repr__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


class Program:
    """One graph. Arrays given as constants are read when an operation first uses them."""

    def __init__(self) -> None:
        """MissingExtraError without Apple's package."""
        if find_spec("coreai") is None:
            raise MissingExtraError("coreai", "coreai-core")
        from coreai._compiler import ir
        from coreai._compiler._mlir_libs import _coreaiIR, _mlir
        from coreai._compiler._mlir_libs._coreaiIR._bindings.mlir.dialects import coreai as bindings

        self._ir = ir
        self._globals = _mlir.globals
        self._attributes: dict[str, Mapping[str, Handle]] = {}
        self._elements = bindings.create_elements_attr
        self.context = ir.Context()
        _coreaiIR.register_dialects(self.context, load=True)
        self._place = ir.Location.unknown(self.context)
        self._module = ir.Module.create(loc=self._place)
        self._types: dict[tuple[str, tuple[int, ...]], Handle] = {}
        self._scalars = {name: ir.Type.parse(t.mlir, self.context) for name, t in TYPES.items()}
        self._names: tuple[list[str], list[str]] = ([], [])
        self._known: dict[Hashable, Var] = {}
        self._kept: list[Array] = []
        self._outputs: list[Var] = []
        self.kernels: list[str] = []  # names of the Metal functions in it
        self.constants: dict[Var, int] = {}  # those that operations read, with their bytes
        self._graph = self._open_graph()
        self._block = self._graph.regions[0].blocks.append(arg_locs=[])
        self._at = ir.InsertionPoint(self._block)

    def _open_graph(self) -> Operation:
        ir = self._ir
        empty = ir.TypeAttr.get(ir.FunctionType.get([], [], context=self.context), context=self.context)
        attributes = {
            "sym_name": ir.StringAttr.get(ENTRY, self.context),
            "function_type": empty,
            "param_decls": ir.Attribute.parse("#param.decl.array<[]>", self.context),
        }
        at = ir.InsertionPoint(self._module.body)
        return ir.Operation.create("coreai.graph", regions=1, attributes=attributes, loc=self._place, ip=at)

    def type(self, dtype: str, shape: Sequence[int]) -> Handle:
        """The tensor type of an element type and a shape."""
        key = (dtype, tuple(shape))
        found = self._types.get(key)
        if found is None:
            found = self._ir.RankedTensorType.get(list(shape), self._scalars[dtype], loc=self._place)
            self._types[key] = found
        return found

    def input(self, name: str, dtype: str, shape: Sequence[int]) -> Var:
        """A model input."""
        self._names[0].append(name)
        return Var(self._block.add_argument(self.type(dtype, shape), self._place), dtype, tuple(shape))

    def output(self, var: Var, name: str) -> None:
        """Make `var` the model output `name`."""
        self._names[1].append(name)
        self._outputs.append(var)

    def const(self, data: Array, dtype: str | None = None, key: Hashable = None) -> Var:
        """A constant of element type `dtype`, by default that of `data`. Equal small constants are one; so are large
        ones of the same array or with the same `key`."""
        kind = dtype or type_of(data.dtype)
        identity: Hashable = key
        if identity is None:
            identity = data.tobytes() if data.size < LARGE else id(data)
        whole = (kind, data.dtype.str, data.shape, identity)
        found = self._known.get(whole)
        if found is None:
            found = self._known[whole] = Var(None, kind, data.shape, data)
            self._kept.append(data)  # so that its id stays its own
        return found

    def handle(self, var: Var) -> Value:
        """The value in the program; that of a constant is made now if there is none yet."""
        if var.value is not None:
            self.constants[var] = var.nbytes
        if var.handle is None:
            assert var.value is not None
            attribute = self._data(var)
            made = self._create("coreai.constant", (), [self.type(var.dtype, var.shape)], {"value": attribute})
            var.handle = made.results[0]
        return var.handle

    def _data(self, var: Var) -> Handle:
        """The elements of a constant: large ones are referenced until the program is written, not copied."""
        assert var.value is not None
        given = np.asarray(var.value)
        data = in_order(given.astype(TYPES[var.dtype].numpy, copy=False))
        if not np.may_share_memory(data, given):
            release(given)
        kind, bits = self.type(var.dtype, var.shape), TYPES[var.dtype].bits
        data = pack_bits(data, bits) if bits < 8 else data
        if data.nbytes < REFERENCED or var.dtype == "bool":
            return self._elements(self._place, kind, data.reshape(data.shape or (1,)))
        self._kept.append(data)
        name = f"constant_{len(self._kept)}"
        at = data.itemsize  # small files are read to where more alignment is not given, and then refused
        return self._ir.DenseResourceElementsAttr.get_from_buffer(data, name, kind, at, context=self.context)

    def _create(
        self,
        kind: str,
        operands: Sequence[Handle],
        types: Sequence[Handle],
        attributes: Mapping[str, Handle] | None = None,
        regions: int = 0,
    ) -> Operation:
        return self._ir.Operation.create(
            kind,
            results=types,
            operands=operands,
            attributes=attributes,
            regions=regions,
            loc=self._place,
            ip=self._at,
        )

    def op(
        self,
        kind: str,
        operands: Sequence[Var],
        results: Sequence[tuple[str, Sequence[int]]],
        attributes: str = "",
    ) -> list[Var]:
        """An operation of the dialect; attributes are written in its syntax."""
        handles = [self.handle(v) for v in operands]
        types = [self.type(*t) for t in results]
        made = self._create(f"coreai.{kind}", handles, types, self._read(attributes) if attributes else None)
        return [Var(r, dtype, tuple(shape)) for r, (dtype, shape) in zip(made.results, results, strict=True)]

    def sparse(self, kind: str, operands: Sequence[Var], dtype: str, shape: tuple[int, ...], count: int) -> Var:
        """An operation that gives a tensor of a mask and `count` numbers."""
        handles = [self.handle(v) for v in operands]
        encoding = f"bitmask, numNonZero = {count}, posWidth = 1, crdWidth = 1"
        element = "".join(f"{d}x" for d in shape) + TYPES[dtype].mlir
        result = self._ir.Type.parse(f"tensor<{element}, #coreai.sparse_tensor_encoding<{encoding}>>", self.context)
        return Var(self._create(f"coreai.{kind}", handles, [result]).results[0], dtype, shape)

    def _read(self, attributes: str) -> Mapping[str, Handle]:
        """Attributes from the dialect's notation. The package would look for Python classes of its own for them, in the
        module of all operations, which takes ten times as long to load as everything else."""
        found = self._attributes.get(attributes)
        if found is None:
            known = self._globals.dialect_search_modules
            self._globals.dialect_search_modules = []
            try:
                pairs = (text.split(" = ") for text in attributes.split(", "))
                found = {name: self._ir.Attribute.parse(value, self.context) for name, value in pairs}
            finally:
                self._globals.dialect_search_modules = known
            self._attributes[attributes] = found
        return found

    def scatter_nd(self, x: Var, indices: Var, updates: Var) -> Var:
        """`x` with slices written at indices."""
        operands = [self.handle(v) for v in (x, indices, updates)]
        made = self._create("coreai.scatter_nd", operands, [self.type(x.dtype, x.shape)], regions=1)
        scalar = self.type(x.dtype, ())
        block = made.regions[0].blocks.append(scalar, scalar, arg_locs=[self._place] * 2)
        at = self._ir.InsertionPoint(block)
        self._ir.Operation.create("coreai.yield", operands=[block.arguments[1]], loc=self._place, ip=at)
        return Var(made.results[0], x.dtype, x.shape)

    def kernel(
        self,
        operands: Sequence[Var],
        settings: Sequence[Var],
        results: Sequence[tuple[str, Sequence[int]]],
        source: str,
        name: str,
    ) -> list[Var]:
        """A Metal function over operands, which are copied into Metal's memory; `settings` are the threads in the grid,
        those in a group, and the shape of each result."""
        self.kernels.append(name)
        inside = []
        for x in operands:
            backed = [self._backed(x.dtype, x.shape)]
            inside.append(self._create("coreaix.copy_with_constraints", [self.handle(x)], backed).results[0])
        text = {"kernel_source": source, "kernel_name": name}
        attributes = {key: self._ir.StringAttr.get(value, self.context) for key, value in text.items()}
        sizes = [len(inside), 1, 1, len(results)]
        attributes["operandSegmentSizes"] = self._ir.DenseI32ArrayAttr.get(sizes, self.context)
        given = [*inside, *(self.handle(v) for v in settings)]
        made = self._create("coreai.metal4_kernel", given, [self._backed(*t) for t in results], attributes)
        outside = []
        for y, (dtype, shape) in zip(made.results, results, strict=True):
            out = self._create("coreaix.copy_discarding_constraints", [y], [self.type(dtype, shape)])
            outside.append(Var(out.results[0], dtype, tuple(shape)))
        return outside

    def _backed(self, dtype: str, shape: Sequence[int]) -> Handle:
        """A tensor type in contiguous memory of Metal's."""
        ones = ["1"] * len(shape)
        layout = f"alignments: [{'x'.join([*ones, '1'])}], interleave: [{'x'.join(ones)}]"
        dims = "".join(f"{d}x" for d in shape)
        text = f"tensor<{dims}{TYPES[dtype].mlir}, #coreaix.hw_constraints<MTLBuffer, {layout}>>"
        return self._ir.Type.parse(text, self.context)

    def close(self) -> None:
        """Write the outputs and the signature, and verify the whole. EmitError if the dialect forbids something."""
        ir = self._ir
        handles = [self.handle(v) for v in self._outputs]
        ir.Operation.create("coreai.output", operands=handles, loc=self._place, ip=self._at)
        inputs = [a.type for a in self._block.arguments]
        signature = ir.FunctionType.get(inputs, [h.type for h in handles], context=self.context)
        self._graph.attributes["function_type"] = ir.TypeAttr.get(signature, context=self.context)
        for attribute, names in zip(("arg_attrs", "res_attrs"), self._names, strict=True):
            named = [{"coreai.name": ir.StringAttr.get(name, self.context)} for name in names]
            dictionaries = [ir.DictAttr.get(d, context=self.context) for d in named]
            self._graph.attributes[attribute] = ir.ArrayAttr.get(dictionaries, context=self.context)
        try:
            self._module.operation.verify()
        except ir.MLIRError as e:
            raise EmitError(f"coreai: Apple's dialect refuses the program: {_first(e)}") from None

    def text(self) -> str:
        """The program in the dialect's own notation, without the data of large constants."""
        return str(self._module.operation.get_asm(large_elements_limit=16))

    def write(self, path: Path) -> None:
        """Serialize the closed program; it is consumed. EmitError if the package cannot."""
        from coreai._compiler._mlir_libs._coreaiIR._bindings import compiler

        try:
            compiler.serialize_module_to_bytecode(
                module=self._module, package_path=path, dialect_version=DIALECT, bytecode_version=BYTECODE
            )
        except RuntimeError as e:
            raise EmitError(f"coreai: the program cannot be written: {_first(e)}") from None


def _first(e: Exception) -> str:
    lines = str(e).splitlines()
    return next((line for line in lines if "error" in line), lines[0] if lines else "no reason given")[:300]
