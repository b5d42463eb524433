"""`tidemill.compile` and `tidemill.load_model`: a network as a Python object that runs on a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill import batch as processes
from tidemill.compiler import model_file
from tidemill.compiler.compile import compile_graph
from tidemill.compiler.compiled import Border, CompiledModel
from tidemill.compiler.frontends import load_model as load_graph
from tidemill.compiler.ir import Graph
from tidemill.compiler.passes.batch import batched
from tidemill.compiler.passes.fallback import softmax_on_host
from tidemill.compiler.ports import InputError, encode
from tidemill.compiler.report import Report, layer_report, step_report
from tidemill.compiler.runtime import Call, Inputs, Session, named_inputs
from tidemill.config import DEFAULT_PRESET, Config
from tidemill.config import preset as preset_config
from tidemill.driver.buffers import ARENA_BASE
from tidemill.driver.device import DEFAULT_MEM_SIZE
from tidemill.driver.npu import Npu, open_npu
from tidemill.golden.affine import Affine, dequantize, quantize
from tidemill.isa import INSTRUCTION_BYTES

Array = NDArray[Any]
Batch = Array | Mapping[str, ArrayLike] | Sequence[Inputs]
"""Inputs of many inferences: a list of them, or arrays with a leading axis of inferences."""

_PAGE = 1 << 20


class Model:
    """A compiled network and the device it runs on, which is opened when it is first used.

    A context manager that closes the device. A network with variables (a streaming one) keeps them from call to call
    until `reset`. Methods raise InputError for arrays that do not fit, DeviceError where the device fails.

    Attributes
    ----------
    compiled : CompiledModel
    graph : Graph or None
        What it was compiled from; None for a model from a .tmb file.
    """

    def __init__(
        self, compiled: CompiledModel, *, device: str = "iss", graph: Graph | None = None, **options: Any
    ) -> None:
        self.compiled, self.graph, self.device = compiled, graph, device
        self._options = _with_memory(compiled, options)
        self._session: Session | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the device; the next call opens it again, with the variables' initial values."""
        if self._session is not None:
            self._session.npu.close()
            self._session = None

    @property
    def config(self) -> Config:
        """The configuration it is compiled for."""
        return self.compiled.config

    @property
    def inputs(self) -> tuple[Border, ...]:
        """Name, shape, dtype, scale and zero point of each input."""
        return self.compiled.inputs

    @property
    def outputs(self) -> tuple[Border, ...]:
        """Name, shape, dtype, scale and zero point of each output."""
        return self.compiled.outputs

    @property
    def session(self) -> Session:
        """The model on its open device."""
        if self._session is None:
            npu: Npu = open_npu(self.device, config=self.config, **self._options)
            try:
                self._session = Session(npu, self.compiled)
            except BaseException:
                npu.close()
                raise
        return self._session

    def __call__(self, x: Inputs) -> Array | dict[str, Array]:
        """One inference: the output array, or the outputs by name where there are several.

        `x` is a dict of arrays by input name, a list of arrays, or the one array.
        """
        return self._shown(self.run(x).outputs)

    def run(self, x: Inputs, on_cycles: Callable[[int], None] | None = None) -> Call:
        """One inference with its cycles and counters; `on_cycles` is told the cycles so far from time to time."""
        return self.session.run(self.check(x), on_cycles)

    def check(self, x: Inputs) -> dict[str, Array]:
        """The inputs by name. Raises InputError where they do not fit the model."""
        arrays: dict[str, Array] = {}
        for border, array in named_inputs(self.compiled, x):
            if array.dtype.kind == "f" and border.scale is not None and np.dtype(border.dtype).kind in "iu":
                raise InputError(
                    f"input {border.name!r} takes {border.dtype}, not {array.dtype}; "
                    f"quantize it first: model.quantize(x, {border.name!r})"
                )
            value = self.compiled.values[border.value]
            encode(border, array, value.shape, value.dtype)
            arrays[border.name] = array
        return arrays

    def reset(self) -> None:
        """Put every variable back to its initial value."""
        if self._session is not None:
            self._session.reset()

    def exposed(self) -> dict[str, Array]:
        """Intermediate tensors of the latest call, by name; of a model compiled with `keep_all`."""
        return self.session.exposed()

    def quantize(self, x: ArrayLike, name: str | None = None) -> Array:
        """Real numbers as input `name` takes them: x / scale in float32, rounded half to even, plus the zero point,
        saturated. Raises ValueError for an input without a scale."""
        border, affine = _quantization(self.inputs, name, "input")
        unsigned = border.dtype == "uint8"
        return quantize(np.asarray(x, np.float32), affine, unsigned=unsigned).astype(border.dtype)

    def dequantize(self, y: ArrayLike, name: str | None = None) -> NDArray[np.float32]:
        """The real numbers that values of output `name` stand for: float32 scale * (y - zero point)."""
        return dequantize(y, _quantization(self.outputs, name, "output")[1])

    def batch(
        self, inputs: Batch, *, workers: int | None = None, progress: Callable[[int], None] | None = None
    ) -> Array | dict[str, Array]:
        """Outputs of many inferences with a leading axis of inferences.

        `inputs` is a list of what a call takes, or one array (several inputs: a dict of arrays) with a leading axis of
        inferences. An array may also have the model's own axes, the first of any length: calls then take their share
        of it, and outputs are joined along their first axis. The rest is as for `calls`.
        """
        items, length = self._items(inputs)
        calls = list(self.calls(items, workers=workers, progress=progress))
        outputs = {}
        for border in self.outputs:
            parts = [call.outputs[border.name] for call in calls]
            if length is None:
                outputs[border.name] = np.stack(parts) if parts else np.zeros((0, *border.shape), border.dtype)
            else:
                empty = np.zeros((0, *border.shape[1:]), border.dtype)
                outputs[border.name] = np.concatenate([empty, *parts])[:length]
        return self._shown(outputs)

    def calls(
        self, inputs: Sequence[Inputs], *, workers: int | None = None, progress: Callable[[int], None] | None = None
    ) -> Iterator[Call]:
        """Each inference of a list, in order, with its cycles and counters.

        Simulated devices run in `workers` processes (default: one a core), each with a device of its own; a model with
        variables, and any other device, runs them one after another on the open device. `progress` is called with the
        number of finished inferences.
        """
        checked = [self.check(x) for x in inputs]
        count = min(len(checked), processes.available_cores() if workers is None else workers)
        if count > 1 and not self.compiled.variables and self.device in ("iss", "rtl"):
            calls = processes.run_parallel(self.compiled, self.device, self._options, checked, count)
        else:
            calls = (self.session.run(x) for x in checked)
        for number, call in enumerate(calls):
            if progress is not None:
                progress(number + 1)
            yield call

    def report(self, x: Inputs, call: Call | None = None) -> Report:
        """Where the cycles of one inference go, operation by operation (`compiler.report`). `call` is the call of `x`
        where it was made already, from initial variables.

        A model from a .tmb file has no graph to take apart, its report has a row for each program segment. Variables
        are put back to their initial values.
        """
        arrays = self.check(x)
        self.reset()
        whole = call or self.session.run(arrays)
        self.reset()
        if self.graph is None:
            return step_report(self.compiled, whole)
        separate = compile_graph(self.graph, self.config, separate=True)
        with open_npu(self.device, config=self.config, **_with_memory(separate, self._options)) as npu:
            parts = Session(npu, separate).run(arrays)
        return layer_report(self.compiled, whole, separate, parts)

    def save(self, path: str | Path) -> None:
        """Write a .tmb file; it appears complete or not at all."""
        model_file.save(self.compiled, path)

    def _shown(self, outputs: dict[str, Array]) -> Array | dict[str, Array]:
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def _items(self, inputs: Batch) -> tuple[Sequence[Inputs], int | None]:
        """The single calls; and where the model's own first axis counts inferences, how many there are."""
        if isinstance(inputs, np.ndarray):
            inputs = {self.inputs[0].name: inputs} if len(self.inputs) == 1 else list(inputs)
        if not isinstance(inputs, Mapping):
            return list(inputs), None
        arrays = named_inputs(self.compiled, inputs)
        lengths = {array.shape[0] if array.ndim else 0 for _, array in arrays}
        if len(lengths) != 1:
            raise InputError(f"the arrays of a batch must have equally long first axes, not {sorted(lengths)}")
        length = lengths.pop()
        own = {border.shape[0] for border in (*self.inputs, *self.outputs) if border.shape}
        if len(own) == 1 and all(array.shape[1:] == border.shape[1:] for border, array in arrays):
            size = own.pop()
            columns = {border.name: _padded(array, size) for border, array in arrays}
            starts = range(0, length, size)
            return [{name: column[i : i + size] for name, column in columns.items()} for i in starts], length
        return [{border.name: array[i] for border, array in arrays} for i in range(length)], None


def _padded(array: Array, multiple: int) -> Array:
    """Zeros appended until the first axis is a multiple of `multiple`."""
    missing = -len(array) % multiple
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)]) if missing else array


def compile(
    model: str | Path | Graph,
    *,
    preset: str | None = None,
    config: Config | None = None,
    device: str = "iss",
    batch: int = 1,
    keep_all: bool = False,
    planner: str = "greedy",
    softmax: str = "npu",
    **device_options: Any,
) -> Model:
    """Compile a network for a configuration.

    Parameters
    ----------
    model : path of a .tflite or .onnx file, or a Graph
    preset, config : one of them; default preset "base"
    device : where it runs: "iss" (simulator), "rtl" (Verilated hardware), ...
    batch : inferences in one call; inputs and outputs have `batch` times the model's first axis, weights are read once
    keep_all : every tensor gets DRAM of its own and can be read after a call (`Model.exposed`)
    planner : "greedy" or "cpsat" (OR-tools), for the activation memory
    softmax : "npu" or "host": where int8 softmax runs, with the same bytes
    device_options : the device's, for example `read_latency`, `bandwidth`, `mem_size`

    Raises ModelError, which names the file or node and why; ConfigError; ValueError for both preset and config.
    """
    if preset is not None and config is not None:
        raise ValueError("give a preset or a config, not both")
    chosen = config if config is not None else preset_config(preset or DEFAULT_PRESET)
    if softmax not in ("npu", "host"):
        raise ValueError(f"softmax must be 'npu' or 'host', not {softmax!r}")
    graph = batched(model if isinstance(model, Graph) else load_graph(model), batch)
    if softmax == "host":
        graph = softmax_on_host(graph)
    compiled = compile_graph(graph, chosen, keep_all=keep_all, planner=planner)
    return Model(compiled, device=device, graph=graph, **device_options)


def load_model(path: str | Path, *, device: str = "iss", **device_options: Any) -> Model:
    """A model from a .tmb file of `Model.save`. Raises ProgramFileError, OSError."""
    return Model(model_file.load(path), device=device, **device_options)


def _with_memory(compiled: CompiledModel, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with as much DRAM as the model needs, where the default is too small."""
    program = compiled.program
    end = max((a + program.buffers[name].nbytes for name, a in program.layout(ARENA_BASE).items()), default=ARENA_BASE)
    needed = end + len(program.words) * INSTRUCTION_BYTES + _PAGE
    if needed <= DEFAULT_MEM_SIZE or "mem_size" in options:
        return dict(options)
    return {**options, "mem_size": -(-needed // _PAGE) * _PAGE}


def _quantization(borders: tuple[Border, ...], name: str | None, what: str) -> tuple[Border, Affine]:
    names = ", ".join(repr(border.name) for border in borders)
    if name is None and len(borders) != 1:
        raise ValueError(f"name one of the {what}s: {names}")
    for border in borders:
        if name is None or border.name == name:
            if border.scale is None or border.dtype not in ("int8", "uint8"):
                raise ValueError(f"{what} {border.name!r} is {border.dtype} without a scale; nothing to convert")
            return border, Affine(border.scale, border.zero_point)
    raise ValueError(f"the model has no {what} {name!r}; its {what}s: {names}")
