"""Builds the simulation of all mutants of a netlist and runs a bench on some of them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from cocotb_tools.runner import get_runner

from tidemill_verif.bench_runs import BenchRun
from tidemill_verif.benches import PARAMS_VARIABLE
from tidemill_verif.cache import build_once, content_key
from tidemill_verif.mutation import MutationError, netlist
from tidemill_verif.mutation.fork_server import PLAN_VARIABLE, Plan, Result
from tidemill_verif.toolchain import WAIVERS, build_env, verilator_version

_ARGUMENTS = ["-Wno-fatal", "--output-split-cfuncs", "500", "-CFLAGS", "-Os", "--no-public-flat-rw"]
_PUBLIC = '`verilator_config\npublic_flat_rw -module "top" -var "*"\n'
_POLL_SECONDS = 0.2
_FACTOR, _CPU_FACTOR, _GRACE = 2.0, 6.0, 5
"""Time of a mutant: see `Plan`."""


def build(base: netlist.Netlist, chosen: list[netlist.Mutant]) -> Path:
    """Folder with the simulation of all `chosen` mutants; built once. Raises `MutationError`."""

    def make(folder: Path) -> None:
        netlist.write_mutated(base, chosen, folder)
        control, log = folder / "public.vlt", folder / "build.log"
        control.write_text(_PUBLIC)
        try:
            with _environment(build_env()):
                get_runner("verilator").build(
                    sources=[control, WAIVERS, folder / netlist.MUTATED, folder / netlist.TOP],
                    hdl_toplevel="top",
                    build_dir=folder,
                    build_args=_ARGUMENTS,
                    timescale=("1ns", "1ps"),
                    log_file=log,
                )
        except (RuntimeError, SystemExit) as error:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:]) if log.exists() else ""
            raise MutationError(f"cannot build the mutants: {error}\n{tail}") from error

    key = content_key(
        base.key,
        "\n".join(mutant.command for mutant in chosen),
        Path(netlist.__file__).read_bytes(),
        json.dumps(_ARGUMENTS),
        verilator_version(),
        importlib.metadata.version("cocotb"),
    )
    return build_once("mutation-simulation", key, make)


def run_bench_on_mutants(
    folder: Path,
    run: BenchRun,
    selectors: list[int],
    jobs: int,
    on_result: Callable[[Result], None],
    deadline: float | None = None,
) -> None:
    """Run `run`'s bench on the mutants `selectors` of the simulation in `folder`, `jobs` at a time.

    `on_result` gets every result while the others still run. At `deadline` (of `time.monotonic`) nothing more is
    started. Raises `MutationError` where the bench fails on the original.
    """
    with tempfile.TemporaryDirectory(prefix="tidemill-mutants-") as name:
        work = Path(name)
        results, stop = work / "results.jsonl", work / "stop"
        results.touch()
        plan = Plan(selectors, jobs, _FACTOR, _CPU_FACTOR, _GRACE, str(results), str(stop))
        (work / "plan.json").write_text(json.dumps(asdict(plan)))
        simulation = threading.Thread(target=_simulate, args=(folder, run, work))
        original = False
        with _environment(build_env()), results.open() as lines:
            simulation.start()
            try:
                alive = True
                while alive:
                    alive = simulation.is_alive()
                    for line in lines:
                        result = Result(**json.loads(line))
                        if result.selector:
                            on_result(result)
                        elif result.reason:
                            raise MutationError(f"{run} fails without any mutant: {result.reason}")
                        original = True
                    if deadline is not None and time.monotonic() > deadline:
                        stop.touch()
                    simulation.join(_POLL_SECONDS)
            finally:
                stop.touch()
                simulation.join()
        if not original:
            tail = "\n".join((work / "sim.log").read_text(errors="replace").splitlines()[-10:])
            raise MutationError(f"{run} did not start:\n{tail}")


def _simulate(folder: Path, run: BenchRun, work: Path) -> None:
    """Run the fork server and the bench; what they found is in the results file."""
    with suppress(RuntimeError, SystemExit):
        get_runner("verilator").test(
            hdl_toplevel="top",
            hdl_toplevel_lang="verilog",
            test_module=["tidemill_verif.mutation.fork_server", run.module],
            seed=run.seed,
            extra_env={
                PARAMS_VARIABLE: json.dumps({**run.params, "seed": run.seed}),
                PLAN_VARIABLE: str(work / "plan.json"),
                "COCOTB_MAX_FAILURES": "1",
            },
            build_dir=folder,
            test_dir=work,
            results_xml=str(work / "none.xml"),
            log_file=work / "sim.log",
        )


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """`os.environ` with `values`, which is where cocotb's runner looks."""
    saved = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)
