"""Runs a cocotb bench on an Amaranth component under Verilator."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cocotb_tools.runner import get_runner

from tidemill_verif.benches import PARAMS_VARIABLE
from tidemill_verif.cache import build_once, content_key
from tidemill_verif.coverage.collect import VERILATOR_FLAGS, code_wanted, keep_code_coverage
from tidemill_verif.elaborate import Design, verilog_file
from tidemill_verif.toolchain import WAIVERS, build_env, verilator_version

_PORTS_PUBLIC = '`verilator_config\npublic_flat_rw -module "top" -var "*"\n'
_BUILD_ARGS = ["-Wno-fatal", "--output-split-cfuncs", "500"]
_SMALL = ["-CFLAGS", "-Os"]
"""Not with coverage: it is megabytes of C++ that run once, which Verilator then leaves unoptimized."""
_LOG_TAIL = 40


class BenchError(AssertionError):
    """A bench failed or did not build; the message says what failed, with which seed, and where the logs are."""


def results_root() -> Path:
    """Folder of the results: `TIDEMILL_RESULTS`, else `build/results` below the current folder."""
    return Path(os.environ.get("TIDEMILL_RESULTS", "build/results")).resolve()


def waves_wanted() -> bool:
    """Whether the environment asks for waveforms (`WAVES=1`)."""
    return os.environ.get("WAVES", "0") not in ("", "0")


def run_bench(
    design: Design,
    *,
    bench: str,
    name: str,
    params: dict[str, Any] | None = None,
    seed: int = 1,
    tests: Sequence[str] | None = None,
    public: str = "ports",
    sources: Sequence[Path] = (),
) -> Path:
    """Elaborate `design`, build it with Verilator and run the cocotb tests of module `bench` on it.

    Parameters
    ----------
    design : Design
        Becomes toplevel `top`.
    bench : str
        Module with the cocotb tests.
    name : str
        Names the run; the results go to `results_root() / f"{name}-s{seed}"`: `params.json`, `results.xml`,
        `sim.log`, and with `WAVES=1` `dump.vcd`. With `TIDEMILL_COVERAGE` code coverage is measured and kept
        (`coverage/collect.py`).
    params : dict
        What `tidemill_verif.benches.params()` returns in the bench, JSON types only; `seed` is added.
    seed : int
        Also seeds cocotb's random generator.
    tests : Sequence[str]
        Names of the tests to run; all where None.
    public : str
        `"ports"` makes the signals of the toplevel module visible to the bench, `"all"` every signal (about four
        times slower).
    sources : Sequence[Path]
        Verilog files with modules that `design` only instantiates.

    Returns the results folder. Raises `BenchError`.
    """
    if public not in ("ports", "all"):
        raise ValueError(f"public must be 'ports' or 'all', not {public!r}")
    waves = waves_wanted()
    source = verilog_file(design, positions=code_wanted())
    folder = _build(source, public, waves, sources)
    results = results_root() / f"{name}-s{seed}"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    bench_params = json.dumps({**(params or {}), "seed": seed}, indent=1)
    (results / "params.json").write_text(bench_params + "\n")

    runner = get_runner("verilator")
    log, xml = results / "sim.log", results / "results.xml"
    failure: str | None = None
    try:
        with _environment(build_env()):
            runner.test(
                hdl_toplevel="top",
                hdl_toplevel_lang="verilog",
                test_module=bench,
                testcase=list(tests) if tests is not None else None,
                seed=seed,
                extra_env={PARAMS_VARIABLE: bench_params},
                build_dir=folder,
                test_dir=results,
                results_xml=str(xml),
                log_file=log,
                waves=waves,
            )
    except (RuntimeError, SystemExit) as error:
        failure = str(error)
    ran, failed = _read_results(xml)
    if failure is not None or failed or not ran:
        reason = ", ".join(failed) or ("no test ran" if not ran else failure)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL:]) if log.exists() else ""
        raise BenchError(f"{name}: {reason} (seed {seed}; logs in {results})\n{tail}")
    keep_code_coverage(results / "coverage.dat", results.name)
    return results


def _build(source: Path, public: str, waves: bool, modules: Sequence[Path]) -> Path:
    """Folder with the simulation of `source`, built at most once."""
    build_args = [*_BUILD_ARGS, *(VERILATOR_FLAGS if code_wanted() else _SMALL)]

    def build(folder: Path) -> None:
        sources = [WAIVERS, source, *modules]
        arguments = list(build_args)
        if public == "ports":
            control = folder / "public.vlt"
            control.write_text(_PORTS_PUBLIC)
            sources.insert(0, control)
            arguments.append("--no-public-flat-rw")
        log = folder / "build.log"
        try:
            with _environment(build_env()):
                get_runner("verilator").build(
                    sources=sources,
                    hdl_toplevel="top",
                    build_dir=folder,
                    build_args=arguments,
                    timescale=("1ns", "1ps"),
                    waves=waves,
                    log_file=log,
                )
        except (RuntimeError, SystemExit) as error:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL:]) if log.exists() else ""
            raise BenchError(f"Verilator build of {source} failed: {error}\n{tail}") from error

    key = content_key(
        source.read_bytes(),
        WAIVERS.read_bytes(),
        json.dumps([build_args, public, waves]),
        verilator_version(),
        importlib.metadata.version("cocotb"),
        *(module.read_bytes() for module in modules),
    )
    return build_once("bench", key, build)


def _read_results(xml: Path) -> tuple[int, list[str]]:
    """Tests that ran and the names of those that failed."""
    if not xml.exists():
        return 0, []
    ran, failed = 0, []
    for case in ElementTree.parse(xml).iter("testcase"):
        if case.find("skipped") is not None:
            continue
        ran += 1
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(case.get("name", "?"))
    return ran, failed


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
