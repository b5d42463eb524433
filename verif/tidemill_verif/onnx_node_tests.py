"""ONNX's backend node tests through `tidemill.onnx_backend`: python -m tidemill_verif.onnx_node_tests.

Cases are those of the installed onnx release for the operators of `OPERATORS`, as far as onnxruntime loads and passes
them. A case passes when every output has the expected type and is equal, or for float32 within the case's tolerance.
Cases that the backend refuses with a ModelError count as unsupported, with the reason.
"""

from __future__ import annotations

import collections
import functools
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray

from tidemill.compiler.ir import ModelError
from tidemill.onnx_backend import TidemillBackend

Array = NDArray[Any]

QUANTIZED = {
    *("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
}
"""The quantized group."""
OPERATORS = QUANTIZED | {
    *("Add", "Sub", "Mul", "Div", "Max", "Min", "Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "Tanh"),
    *("HardSigmoid", "HardSwish", "Neg", "Abs", "Softmax", "Conv", "Gemm", "MatMul", "MaxPool", "AveragePool"),
    *("GlobalMaxPool", "GlobalAveragePool", "ReduceMean", "ReduceMax", "ReduceMin", "Concat", "Reshape", "Flatten"),
    *("Transpose", "Squeeze", "Unsqueeze", "Pad", "Slice", "Split", "Gather", "Resize", "DepthToSpace"),
    *("SpaceToDepth", "Identity", "Dropout", "Expand", "Tile", "Cast", "Equal", "Greater", "GreaterOrEqual", "Less"),
    *("LessOrEqual", "Mod", "Where", "BitShift", "ArgMax"),
}
"""The operators whose cases run."""
IR_VERSION = 13
OPSET = 26
"""Newest file format and operator set the pinned onnxruntime runs; newer sets add element types only."""


@dataclass(frozen=True)
class Result:
    """One case: `outcome` is passed, unsupported or failed, or excluded where onnxruntime itself does not pass."""

    name: str
    operator: str
    outcome: str
    why: str = ""


def operator(case: Any) -> str:
    """The operator a case tests: that of its only node, or of a function written out as nodes."""
    nodes = case.model.graph.node
    if len(nodes) == 1:
        return str(nodes[0].op_type)
    return "DynamicQuantizeLinear" if case.name.startswith("test_dynamicquantizelinear") else ""


@functools.cache
def _all_cases() -> list[Any]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(load_model_tests(kind="node"))


def cases(pattern: str = "") -> Iterator[Any]:
    """The node tests of `OPERATORS` whose names match the regular expression `pattern`."""
    for case in _all_cases():
        if operator(case) in OPERATORS and re.search(pattern, case.name):
            model: Any = case.model
            model.ir_version = min(model.ir_version, IR_VERSION)
            for entry in model.opset_import:
                entry.version = min(entry.version, OPSET) if not entry.domain else entry.version
            yield case


def arrays(values: Iterable[Any]) -> list[Any]:
    """Numpy arrays of a case's values, which are arrays, numbers or tensor messages; sequences stay lists."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, onnx.TensorProto):
            found.append(onnx.numpy_helper.to_array(value))
        else:
            found.append(value if isinstance(value, list) else np.asarray(value))
    return found


def agrees(actual: Array, expected: Any, case: Any) -> bool:
    """Equal type, shape and values; float values within the case's tolerance."""
    expected = np.asarray(expected)
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return False
    if expected.dtype.kind == "f":
        return bool(np.allclose(actual, expected, case.rtol, case.atol, equal_nan=True))
    return bool(np.array_equal(actual, expected))


def runtime_passes(case: Any) -> bool:
    """Whether onnxruntime loads the case and gives the expected outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    data = case.model.SerializeToString()
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        for inputs, outputs in case.data_sets:
            names = [info.name for info in session.get_inputs()]
            actual = session.run(None, dict(zip(names, arrays(inputs), strict=True)))
            if not all(agrees(np.asarray(a), e, case) for a, e in zip(actual, arrays(outputs), strict=True)):
                return False
    except Exception:  # any error of the runtime excludes the case
        return False
    return True


def check(case: Any) -> Result:
    """Run one case."""
    name, kind = case.name, operator(case)
    if not runtime_passes(case):
        return Result(name, kind, "excluded", "onnxruntime does not load it or does not pass it")
    try:
        prepared = TidemillBackend.prepare(case.model)
        for inputs, outputs in case.data_sets:
            actual = prepared.run(arrays(inputs))
            for i, (a, e) in enumerate(zip(actual, arrays(outputs), strict=True)):
                if not agrees(a, e, case):
                    return Result(name, kind, "failed", f"output {i} differs")
    except ModelError as error:
        return Result(name, kind, "unsupported", str(error))
    except Exception as error:  # a crash is a failure of the backend, to be counted with the others
        return Result(name, kind, "failed", f"{type(error).__name__}: {error}")
    return Result(name, kind, "passed")


def run(pattern: str = "") -> list[Result]:
    """Check every case whose name matches."""
    return [check(case) for case in cases(pattern)]


def summary(results: Iterable[Result]) -> dict[str, int]:
    """Counts by outcome."""
    return dict(collections.Counter(result.outcome for result in results))


@click.command()
@click.option("--pattern", default="", help="Regular expression that names must match.")
@click.option("--list", "listing", is_flag=True, help="Every case, not only those that are not passed.")
def main(pattern: str, listing: bool) -> None:
    """Run ONNX's node tests and report counts by operator; exit code 1 when a case fails."""
    results = run(pattern)
    for result in results:
        if listing or result.outcome in ("failed", "unsupported"):
            click.echo(f"{result.outcome:12} {result.name} {result.why}".rstrip())
    for group, members in (("quantized group", QUANTIZED), ("all operators", OPERATORS)):
        counts = summary(result for result in results if result.operator in members)
        click.echo(f"{group}: " + ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    if any(result.outcome == "failed" for result in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
