"""The regression of the blocks: which bench runs on which design, with which parameters and seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from amaranth.hdl import signed
from amaranth.lib import data

from tidemill.config import preset
from tidemill_hdl.csr import Control
from tidemill_hdl.csr.counters import Counters
from tidemill_hdl.dma import Gateway, LoadEngine, StoreEngine
from tidemill_hdl.frontend import Frontend
from tidemill_hdl.matrix.array import SystolicArray
from tidemill_hdl.matrix.engine import MatrixEngine
from tidemill_hdl.memory.accumulators import Accumulators
from tidemill_hdl.memory.scratchpad import Scratchpad
from tidemill_hdl.prim.nest import AddressNest
from tidemill_hdl.prim.queue import Queue, SkidBuffer
from tidemill_hdl.sync import Sync
from tidemill_hdl.top import Npu
from tidemill_hdl.vector.engine import VectorEngine
from tidemill_hdl.vector.requantizer import Requantizer
from tidemill_verif.elaborate import Design, Prefixed
from tidemill_verif.matrix_system import MatrixSystem
from tidemill_verif.runner import run_bench


@dataclass(frozen=True)
class BenchRun:
    """A bench on a design.

    `name` is unique but for the seed; `bench` is a module of `tidemill_verif.benches`; `params` are the bench's, JSON
    types only.
    """

    name: str
    design: Design
    bench: str
    params: dict[str, Any] = field(default_factory=dict)
    seed: int = 1

    def __str__(self) -> str:
        return f"{self.name}-s{self.seed}"

    @property
    def module(self) -> str:
        """The bench's full module name."""
        return f"tidemill_verif.benches.{self.bench}"

    def start(self) -> Path:
        """Run it: the results folder. Raises `BenchError`."""
        return run_bench(self.design, bench=self.module, name=self.name, params=self.params, seed=self.seed)


def _requantizer() -> list[BenchRun]:
    params = {"latency": Requantizer.latency, "vectors": 24_000}
    return [BenchRun("requantizer", partial(Requantizer), "requantizer", params)]


def _array(rows: int, cols: int, multiplier_latency: int) -> BenchRun:
    psum_bits = 16 + (rows - 1).bit_length()
    shape = (rows, cols, psum_bits, multiplier_latency)
    latency = SystolicArray(*shape).latency
    return BenchRun(
        f"systolic_array-{rows}x{cols}-{multiplier_latency}",
        partial(SystolicArray, *shape),
        "systolic_array",
        {"rows": rows, "cols": cols, "psum_bits": psum_bits, "latency": latency},
    )


def _struct_buffer() -> SkidBuffer:
    return SkidBuffer(data.StructLayout({"a": 3, "b": signed(34)}))


def _buffer(name: str, design: Design, width: int, depth: int) -> BenchRun:
    return BenchRun(f"prims-{name}", design, "stream_buffers", {"width": width, "depth": depth}, 11)


_NESTS = {"load": ([16, 16, 16], [17, 18], 16), "narrow": ([4, 3], [6], 5), "single": ([5], [18, 32, 18], 18)}


def _nest_design(name: str) -> Prefixed:
    return Prefixed(AddressNest(*_NESTS[name]), "nest")


def _nest(name: str) -> BenchRun:
    params = dict(zip(("counts", "addresses", "stride_bits"), _NESTS[name], strict=True))
    return BenchRun(f"prims-nest-{name}", partial(_nest_design, name), "address_nest", params, 12)


def _accumulators(name: str) -> BenchRun:
    memory = Accumulators(preset(name))
    params = {"hazard_distance": memory.hazard_distance, "commit_latency": memory.commit_latency}
    design = partial(Accumulators, preset(name))
    return BenchRun(f"accumulators-{name}", design, "accumulators", {"preset": name, **params})


def _sync(build: str, **changes: Any) -> BenchRun:
    config = preset("tiny").replace(**changes)
    return BenchRun(f"sync-{build}", partial(Sync, config), "sync", {"preset": "tiny", "changes": changes}, 3)


def _frontend(build: str, base: str, **changes: Any) -> BenchRun:
    config = preset(base).replace(**changes)
    return BenchRun(f"frontend-{build}", partial(Frontend, config), "frontend", {"preset": base, "changes": changes})


def _presets(block: str, component: Any, names: Sequence[str], seeds: Sequence[int] = (1,)) -> list[BenchRun]:
    return [
        BenchRun(f"{block}-{name}", partial(component, preset(name)), block, {"preset": name}, seed)
        for name in names
        for seed in seeds
    ]


def _matrix(block: str, component: Any, seeds: Sequence[int] = (1,)) -> list[BenchRun]:
    return [
        BenchRun(f"{block}-{name}", partial(component, preset(name)), block, {"preset": name, "length": length}, seed)
        for name, length in (("tiny", 200), ("base", 80))
        for seed in seeds
    ]


FAMILIES: dict[str, Callable[[], list[BenchRun]]] = {
    "stream_buffers": lambda: [
        _buffer("skid-8", partial(SkidBuffer, 8), 8, 2),
        _buffer("skid-struct", partial(_struct_buffer), 37, 2),
        _buffer("queue-2", partial(Queue, 8, 2), 8, 2),
        _buffer("queue-3", partial(Queue, 8, 3), 8, 3),
        _buffer("queue-5", partial(Queue, 17, 5), 17, 5),
    ],
    "address_nest": lambda: [_nest(name) for name in _NESTS],
    "requantizer": _requantizer,
    "vector_engine": lambda: [
        BenchRun(
            f"vector-engine-{name}",
            partial(VectorEngine, preset(name)),
            "vector_engine",
            {"preset": name, "repeats": 2},
            7,
        )
        for name in ("tiny", "small")
    ],
    "systolic_array": lambda: [_array(4, 4, 3), _array(8, 3, 1), _array(3, 5, 2), _array(16, 16, 3)],
    "matrix_engine": lambda: _matrix("matrix_engine", MatrixEngine, (1, 2)),
    "matrix_system": lambda: _matrix("matrix_system", MatrixSystem),
    "scratchpad": lambda: _presets("scratchpad", Scratchpad, ("tiny", "base")),
    "accumulators": lambda: [_accumulators("tiny"), _accumulators("base")],
    "sync": lambda: [
        _sync("tiny"),
        _sync("narrow", semaphore_width=2, queue_depth=2, name="narrow"),
        _sync("deep", semaphore_width=8, queue_depth=17, name="deep"),
    ],
    "frontend": lambda: [
        _frontend("tiny", "tiny"),
        _frontend("shallow", "tiny", ibuf_depth=32, loop_depth=1, max_burst=2, name="shallow"),
        _frontend("base", "base"),
        _frontend("wide", "base", axi_data_width=128, loop_depth=8, name="wide"),
    ],
    "dma_load": lambda: _presets("dma_load", LoadEngine, ("tiny", "base"), (1, 2)),
    "dma_store": lambda: _presets("dma_store", StoreEngine, ("tiny", "base"), (1, 2)),
    "dma_gateway": lambda: _presets("dma_gateway", Gateway, ("tiny", "base")),
    "counters": lambda: [BenchRun("counters-5", partial(Counters, 5), "counters", {"bits": 5})],
    "control": lambda: _presets("control", Control, ("tiny", "large"), (5,)),
    "npu": lambda: _presets("npu", Npu, ("tiny", "base")),
}
"""Makes the runs of each family anew: a component is elaborated only once."""
