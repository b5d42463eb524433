"""Graphs of one operation for the tests of kernels: compile, check, run, compare with `reference`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tidemill
from tidemill.checker import check
from tidemill.compiler.compile import compile_graph
from tidemill.compiler.ir import Graph, Op, Port, Tensor
from tidemill.compiler.reference import run
from tidemill.compiler.runtime import Session
from tidemill.config import Config

MEM_SIZE = 8 << 20


def run_op(config: Config, op: Op, arrays: Sequence[np.ndarray], device: str = "iss") -> tuple[np.ndarray, int]:
    """Output and cycles of `op` on `device`; `arrays` are the inputs that are no constants, in order. The program must
    pass the checker without an error."""
    sources = [tensor for tensor in op.inputs if tensor.data is None]
    ports = [Port(f"in{i}", t, t.shape, t.dtype) for i, t in enumerate(sources)]
    graph = Graph("one", [op], ports, [Port("out", op.y, op.y.shape, op.y.dtype)])
    model = compile_graph(graph, config)
    errors = [finding.message for finding in check(model.program) if finding.severity == "error"]
    assert not errors, errors[:3]
    options: dict[str, Any] = {"mem_size": MEM_SIZE}
    with tidemill.open(device, config=config, **options) as npu, Session(npu, model) as session:
        call = session.run({port.name: array for port, array in zip(ports, arrays, strict=True)})
    return call.outputs["out"], call.cycles


def expect(config: Config, op: Op, arrays: Sequence[np.ndarray], device: str = "iss") -> int:
    """Assert that the machine gives what `reference` says; returns the cycles."""
    values = iter(arrays)
    want = run(op, [next(values) if tensor.data is None else tensor.data for tensor in op.inputs])[0]
    got, cycles = run_op(config, op, arrays, device)
    np.testing.assert_array_equal(got, want, err_msg=f"{config.name}: {op}")
    return cycles


def int8(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random int8 of all values."""
    return rng.integers(-128, 128, shape, dtype=np.int8)


def tensor(name: str, array: np.ndarray, constant: bool = False) -> Tensor:
    """A tensor that holds `array`, or for a constant has it as its data."""
    return Tensor(name, array.shape, array.dtype.name, data=array if constant else None)
