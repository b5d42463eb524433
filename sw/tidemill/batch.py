"""Many inferences at once: worker processes that each hold the model on a device of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.util import Finalize
from typing import Any

from numpy.typing import NDArray

from tidemill.compiler.compiled import CompiledModel
from tidemill.compiler.runtime import Call, Session
from tidemill.driver.npu import open_npu

Named = Mapping[str, NDArray[Any]]

_SESSIONS: list[Session] = []
"""The session of this worker process."""


def run_parallel(
    model: CompiledModel, device: str, options: Mapping[str, Any], inputs: Sequence[Named], workers: int
) -> Iterator[Call]:
    """The calls in the order of `inputs`, from `workers` processes. Raises what the first failing inference raised."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in methods else None)
    chunk = max(1, min(16, len(inputs) // (4 * workers)))
    pool = ProcessPoolExecutor(workers, context, _open, (model, device, dict(options)))
    try:
        yield from pool.map(_run, inputs, chunksize=chunk)
    finally:
        pool.shutdown(cancel_futures=True)


def _open(model: CompiledModel, device: str, options: dict[str, Any]) -> None:
    npu = open_npu(device, config=model.config, **options)
    Finalize(None, npu.close, exitpriority=1)
    _SESSIONS.append(Session(npu, model))


def _run(inputs: Named) -> Call:
    return _SESSIONS[0].run(inputs)


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
