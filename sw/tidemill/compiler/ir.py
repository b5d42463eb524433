"""The compiler's graph: tensors and operations whose integer meaning is complete.

Front ends turn a model into a `Graph`; nothing behind them knows TFLite or ONNX. Every NPU operation carries exact
integer parameters (multipliers, shifts, tables), never real scales to be interpreted; `reference.evaluate` says what
each means in numpy, and the kernels must give the same bytes.

Conventions
-----------
- Activations are int8. A uint8 tensor of a model is held as `value - 128` with `zero_point - 128`; the `Port` at the
  graph's border says so.
- The last axis is the channel axis. A 4-D activation of `Conv2D` and `Pool2D` is [N, H, W, C]; front ends of NCHW
  formats insert `Move` operations or track the layout.
- int32 tensors hold unscaled accumulators (outputs of integer products). Other types exist only between host
  operations and at the border.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.isa import RequantMode

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
"""((top, bottom), (left, right))"""


class ModelError(ValueError):
    """A model that cannot be compiled. The message names the file or the node, its operator, and why."""


@dataclass(eq=False)
class Tensor:
    """A value of the graph; identity is the object.

    `data` makes it a constant. `scale` and `zero_point` are those of the model, for reports and borders only; scale is
    None where the model gives none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: float | None = None
    zero_point: int = 0
    data: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        self.shape = tuple(int(size) for size in self.shape)
        if self.data is not None and self.data.shape != self.shape:
            raise ValueError(f"tensor {self.name!r}: data has shape {self.data.shape}, not {self.shape}")

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def channels(self) -> int:
        """Size of the last axis; 1 for a scalar."""
        return self.shape[-1] if self.shape else 1

    @property
    def pixels(self) -> int:
        """Product of all axes but the last."""
        return math.prod(self.shape[:-1])

    def __repr__(self) -> str:
        kind = "constant " if self.data is not None else ""
        return f"{kind}{self.name}: {self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class Requantize:
    """int32 to int8: `clamp(rq(v) + zero_point, qmin, qmax)`, rq as architecture.md defines it for `mode`.

    `bias`, `multiplier`, `shift` are scalars or one per channel (last axis), in the form the hardware takes
    (`golden.requant.quantize_multiplier` for mode tflite, `float_scale` for mode onnx, `reciprocal` for mode div).
    `bias` is added before scaling (after it the value is shifted left by `preshift`).
    """

    multiplier: NDArray[np.int32] | int
    shift: NDArray[np.int32] | int
    zero_point: int = 0
    qmin: int = -128
    qmax: int = 127
    mode: RequantMode = RequantMode.TFLITE
    bias: NDArray[np.int32] | int = 0
    preshift: int = 0


@dataclass(eq=False)
class Op:
    """One operation. `name` and `source` are the node's name and operator type in the model, for errors and reports."""

    name: str
    source: str
    inputs: list[Tensor]
    outputs: list[Tensor]

    @property
    def x(self) -> Tensor:
        """First input."""
        return self.inputs[0]

    @property
    def y(self) -> Tensor:
        """First output."""
        return self.outputs[0]

    @property
    def macs(self) -> int:
        """Useful int8 multiply-accumulates."""
        return 0


@dataclass(eq=False)
class Conv2D(Op):
    """Convolution, grouped and depthwise included: x [N, H, W, Ci] -> y [N, Ho, Wo, Co].

    y = requantize(bias + sum over taps and channels of (x - input_zero_point) * weights); padding counts as
    input_zero_point. `weights` are int16 [Co, kh, kw, Ci / groups] with the weights' zero point already subtracted
    (-255..255; values outside int8 are split into two int8 planes by the kernel); output channel o belongs to group
    o // (Co / groups). `bias` is int32 [Co], not folded with the input's zero point. `requantize` None: y is the int32
    accumulator. `requantize.bias` is zero. `table` [256] int8 indexed by `value & 255` is applied to the int8 result.

    A fully connected layer or a product with a constant matrix is a convolution with kh = kw = 1; x and y then may have
    any rank: all axes but the last count as pixels ([..., Ci] -> [..., Co]).
    """

    weights: NDArray[np.int16]
    bias: NDArray[np.int32]
    requantize: Requantize | None
    strides: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    groups: int = 1
    input_zero_point: int = 0
    table: NDArray[np.int8] | None = None

    @property
    def macs(self) -> int:
        """Useful int8 multiply-accumulates, padding included."""
        return self.y.size * math.prod(self.weights.shape[1:])


@dataclass(eq=False)
class MatMul(Op):
    """Product of two activations: x [..., M, K] @ w [..., K, N] -> [..., M, N]; equal leading axes.

    y = requantize(sum over k of (x - x_zero_point) * (w - w_zero_point)); `requantize` None: int32.
    """

    requantize: Requantize | None
    x_zero_point: int = 0
    w_zero_point: int = 0

    @property
    def macs(self) -> int:
        """Useful int8 multiply-accumulates."""
        return self.y.size * self.x.shape[-1]


@dataclass(eq=False)
class Table(Op):
    """Elementwise y = table[x & 255], any shape. `table` is int8 [256]."""

    table: NDArray[np.int8]


@dataclass(eq=False)
class Add(Op):
    """Elementwise y = requantize(table_a[a & 255] + table_b[b & 255]); numpy broadcasting; sums modulo 2**32.

    Addition, subtraction and whatever else is a sum of functions of one operand each. Tables are int32 [256].
    """

    table_a: NDArray[np.int32]
    table_b: NDArray[np.int32]
    requantize: Requantize


@dataclass(eq=False)
class Mul(Op):
    """Elementwise y = requantize((a - a_zero_point) * (b - b_zero_point)); numpy broadcasting."""

    a_zero_point: int
    b_zero_point: int
    requantize: Requantize


@dataclass(eq=False)
class MinMax(Op):
    """Elementwise y = min(a, b) or max(a, b) of int8; numpy broadcasting."""

    maximum: bool


@dataclass(eq=False)
class MaxPool2D(Op):
    """Maximum of each window, padding never wins: [N, H, W, C] -> [N, Ho, Wo, C], clamped to qmin..qmax."""

    kernel: Pair
    strides: Pair
    padding: Padding
    dilation: Pair = (1, 1)
    qmin: int = -128
    qmax: int = 127


@dataclass(eq=False)
class SumPool2D(Op):
    """Average pooling and mean: y = requantize[n](sum of x over the window's pixels that are not padding).

    [N, H, W, C] -> [N, Ho, Wo, C]; n is the number of pixels of the window inside the image, `requantize` has an
    entry for every n that occurs (all with the same zero_point, qmin, qmax, mode). Padding adds nothing: where it is
    to be counted, the entry's bias says so.
    """

    kernel: Pair
    strides: Pair
    padding: Padding
    requantize: dict[int, Requantize]


@dataclass(eq=False)
class Softmax(Op):
    """TFLite's int8 softmax over the last axis (`golden.softmax`); output scale 1/256, zero point -128."""

    input_scale: float
    beta: float = 1.0


@dataclass(eq=False)
class Move(Op):
    """Data movement: y.flat[i] = concatenation of the flattened inputs [index.flat[i]], or `fill` where index is -1.

    `index` is int64 of y's shape. Transposition, reshape, slices, concatenation, padding, split (one Move an output),
    nearest resize, channel repetition are all moves. Types int8 or int32.
    """

    index: NDArray[np.int64]
    fill: int = 0

    @property
    def is_reshape(self) -> bool:
        """The elements keep their order: one input, index 0, 1, 2, ..."""
        flat = self.index.reshape(-1)
        return (
            flat.size == self.inputs[0].size
            and len(self.inputs) == 1
            and bool(np.array_equal(flat, np.arange(flat.size)))
        )


@dataclass(eq=False)
class Host(Op):
    """Runs on the host: `host.FUNCTIONS[function](attributes, *inputs)` -> arrays. Any types; the documented fallback.

    `attributes` hold numbers, strings, lists and numpy arrays only: they are written into compiled files.
    """

    function: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Port:
    """An input or output of the model as the user sees it: `name`, `shape`, `dtype` and quantization of the model.

    The graph's tensor is the user's array with `value - offset` as int8 (offset 128 for uint8 models, else 0), taken
    through `index` where given: tensor.flat[i] = array.flat[index.flat[i]] for an input (-1: `fill`), and
    array.flat[i] = tensor.flat[index.flat[i]] for an output.
    """

    name: str
    tensor: Tensor
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int = 0
    offset: int = 0
    index: NDArray[np.int64] | None = None
    fill: int = 0
    tensor_index: int | None = None
    """Number of the tensor in the model file, where it has one."""


@dataclass(frozen=True)
class State:
    """A variable kept from call to call: `read` is its value when a call starts, `write` its value at the end."""

    name: str
    read: Tensor
    write: Tensor
    initial: NDArray[np.int8]


@dataclass(eq=False)
class Graph:
    """Operations in an order in which they can run, and the borders."""

    name: str
    ops: list[Op]
    inputs: list[Port]
    outputs: list[Port]
    states: list[State] = field(default_factory=list)
    exposed: list[Port] = field(default_factory=list)
    """Intermediate tensors as the model's runtime shows them (as if they were outputs)."""

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor once: borders, states, inputs and outputs of operations."""
        seen: set[int] = set()
        candidates = [port.tensor for port in self.inputs]
        candidates += [state.read for state in self.states]
        for op in self.ops:
            candidates += [*op.inputs, *op.outputs]
        candidates += [port.tensor for port in self.outputs] + [state.write for state in self.states]
        for tensor in candidates:
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield tensor

    def consumers(self) -> dict[int, list[Op]]:
        """Operations that read each tensor, by `id(tensor)`."""
        found: dict[int, list[Op]] = {}
        for op in self.ops:
            for tensor in op.inputs:
                found.setdefault(id(tensor), []).append(op)
        return found

    def producers(self) -> dict[int, Op]:
        """The operation that makes each tensor, by `id(tensor)`."""
        return {id(tensor): op for op in self.ops for tensor in op.outputs}
