"""Proofs that a mutant is equivalent: no input sequence from power-up on can tell it from the original at its ports.

Original and mutant share their inputs and a trigger rises where any output differs. ABC, in the `pyosys` wheel, merges
registers and gates that are equal in every reachable state (`scorr`) and decides the rest by property-directed
reachability (`pdr`). Inputs are free but for the block's `Contract`: a proof covers every environment that keeps it,
while a difference may need one that the rest of the contract forbids, and says nothing.
"""

from __future__ import annotations

import importlib.util
import resource
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tidemill_verif.mutation import MutationError
from tidemill_verif.mutation.netlist import BASE, Mutant, Netlist, yosys

EQUIVALENT, DIFFERENT, UNDECIDED = "equivalent", "different", "undecided"


@dataclass(frozen=True)
class Contract:
    """What the environment promises: inputs `stable` keep their first value; the terms `assume`, Verilog over the
    ports, hold in every cycle."""

    stable: tuple[str, ...] = ()
    assume: tuple[str, ...] = ()


FREE = Contract()

_MITER = f"""\
read_rtlil {BASE}
rename top gold
copy gold gate
mutate -module gate {{command}}
async2sync
setundef -init -zero
memory_map
setundef -init -zero
opt_clean
read_verilog miter.v
hierarchy -top miter
proc
flatten
opt -full
dffunmap
techmap
opt -full
opt_clean -purge
dffunmap
aigmap
write_aiger -zinit miter.aig
"""
_SECONDS = 20
"""Of each of ABC's two steps."""
_REDUCE = "&read miter.aig; &scorr; &put; write_aiger reduced.aig; print_stats"
_DECIDE = f"read_aiger reduced.aig; pdr -T {_SECONDS}"
_CONSTANT = "lat =    0  and =      0"
REVISION = "\n".join((_MITER, _REDUCE, _DECIDE))
"""Changes with what a verdict depends on."""


def _abc() -> Path:
    spec = importlib.util.find_spec("pyosys")
    for location in (spec.submodule_search_locations if spec else None) or ():
        if (path := Path(location) / "yosys-abc").exists():
            return path
    raise MutationError("yosys-abc is not installed: pip install pyosys==0.70 (or run make setup)")


def _run_abc(folder: Path, script: str) -> str:
    """What ABC prints; what it printed until its time was over where it takes too long."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (2 * _SECONDS, 2 * _SECONDS + 1))

    result = subprocess.run(
        [_abc(), "-c", script], cwd=folder, capture_output=True, text=True, check=False, preexec_fn=limit
    )
    return result.stdout


def _miter(netlist: Netlist, contract: Contract) -> str:
    """Verilog of the original and the mutant side by side: `trigger` is high where an output differs and the contract
    was kept up to here."""
    inputs = [(name, bits) for name, is_input, bits in netlist.ports() if is_input]
    outputs = [(name, bits) for name, is_input, bits in netlist.ports() if not is_input]
    free = [(f"in_{name}" if name in contract.stable else name, bits) for name, bits in inputs]
    ports = [*(f"  input [{bits - 1}:0] {name}" for name, bits in free), "  output trigger"]
    lines = ["module miter(", ",\n".join(ports), ");", "  reg started = 0;", "  always @(posedge clk) started <= 1;"]
    for name, bits in inputs:
        if name in contract.stable:
            lines += [
                f"  reg [{bits - 1}:0] held_{name} = 0;",
                f"  wire [{bits - 1}:0] {name} = started ? held_{name} : in_{name};",
                f"  always @(posedge clk) held_{name} <= {name};",
            ]
    for name, bits in outputs:
        lines += [f"  wire [{bits - 1}:0] {name};", f"  wire [{bits - 1}:0] gate_{name};"]
    for module, prefix in (("gold", ""), ("gate", "gate_")):
        connected = [*(f".{name}({name})" for name, _ in inputs), *(f".{name}({prefix}{name})" for name, _ in outputs)]
        lines.append(f"  {module} {module}({', '.join(connected)});")
    kept = " && ".join(f"({term})" for term in contract.assume) or "1"
    differs = " || ".join(f"{name} != gate_{name}" for name, _ in outputs)
    lines += [
        "  reg broken = 0;",
        f"  wire kept = !broken && {kept};",
        "  always @(posedge clk) broken <= !kept;",
        f"  assign trigger = kept && ({differs});",
        "endmodule",
    ]
    return "\n".join(lines) + "\n"


def decide(netlist: Netlist, mutant: Mutant, contract: Contract = FREE) -> str:
    """EQUIVALENT, DIFFERENT or UNDECIDED. Raises `MutationError`."""
    if mutant.port == "Q" and mutant.mode.startswith("const"):
        return UNDECIDED  # Yosys refuses a constant in the place of a signal that has an initial value.
    with tempfile.TemporaryDirectory(prefix="tidemill-equivalence-") as name:
        folder = Path(name)
        (folder / BASE).write_bytes((netlist.folder / BASE).read_bytes())
        (folder / "miter.v").write_text(_miter(netlist, contract))
        yosys(folder, _MITER.format(command=mutant.command))
        reduced = _run_abc(folder, _REDUCE)
        if _CONSTANT in reduced:
            # Nothing is left but the constant that the trigger is.
            text = _run_abc(folder, "read_aiger reduced.aig; iprove")
            return EQUIVALENT if "UNSATISFIABLE" in text else DIFFERENT
        if not (folder / "reduced.aig").exists():
            return UNDECIDED
        text = _run_abc(folder, _DECIDE)
        if "Property proved" in text:
            return EQUIVALENT
        return DIFFERENT if "was asserted" in text else UNDECIDED
