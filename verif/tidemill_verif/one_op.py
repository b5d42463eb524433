"""One operation as a program of its own, for the tests of kernels: emit, schedule, check, run, compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tidemill
from tidemill.checker import check
from tidemill.compiler.context import Context
from tidemill.compiler.dram import row_shape
from tidemill.compiler.ir import Op, Tensor
from tidemill.compiler.kernels import KERNELS
from tidemill.compiler.memory import pack, unpack
from tidemill.compiler.reference import run
from tidemill.compiler.schedule import schedule
from tidemill.compiler.stream import Stream
from tidemill.config import Config
from tidemill.driver.npu import Result
from tidemill.operands import BufferRef
from tidemill.program import Program

MEM_SIZE = 8 << 20
OUTPUT = "out"


def program_of(config: Config, op: Op) -> Program:
    """The operation's kernel alone; buffers `in0`, `in1`, ... (inputs that are no constants) and `out`, as rows."""
    stream = Stream(config)
    places: dict[int, BufferRef] = {}
    given = [tensor for tensor in op.inputs if tensor.data is None]
    for name, tensor in [*((f"in{i}", t) for i, t in enumerate(given)), (OUTPUT, op.y)]:
        places[id(tensor)] = stream.buffer(name, tensor.dtype, row_shape(tensor, config))
    context = Context(config, stream, lambda tensor: places[id(tensor)])
    with stream.operation(0):
        KERNELS[type(op)](context, op)
    stream.end_segment()
    return schedule(stream, [op.name]).program


def run_op(config: Config, op: Op, arrays: Sequence[np.ndarray], device: str = "iss") -> tuple[np.ndarray, Result]:
    """Output of `op` on `device`; `arrays` are the inputs that are no constants, in order. The program must pass the
    checker without an error. Lanes beyond the last channel hold 85 (an operation must not care)."""
    program = program_of(config, op)
    errors = [finding.message for finding in check(program) if finding.severity == "error"]
    assert not errors, errors[:3]
    inputs = {}
    for i, array in enumerate(arrays):
        rows = pack(array, config)
        channels = array.shape[-1] if array.ndim else 1
        beyond = channels % config.dim
        if beyond:
            rows[-1, :, beyond:] = 85
        inputs[f"in{i}"] = rows
    options: dict[str, Any] = {"mem_size": MEM_SIZE}
    with tidemill.open(device, config=config, **options) as npu:
        result = npu.run(npu.load(program), inputs)
    return unpack(result.outputs[OUTPUT], op.y.shape), result


def expect(config: Config, op: Op, arrays: Sequence[np.ndarray], device: str = "iss") -> int:
    """Assert that the machine gives what `reference` says; returns the cycles."""
    values = iter(arrays)
    want = run(op, [next(values) if tensor.data is None else tensor.data for tensor in op.inputs])[0]
    got, result = run_op(config, op, arrays, device)
    np.testing.assert_array_equal(got, want, err_msg=f"{config.name}: {op.name} ({op.source})")
    return result.cycles


def int8(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random int8 of all values."""
    return rng.integers(-128, 128, shape, dtype=np.int8)


def tensor(name: str, array: np.ndarray, constant: bool = False) -> Tensor:
    """A tensor that holds `array`, or for a constant has it as its data."""
    return Tensor(name, array.shape, array.dtype.name, data=array if constant else None)
