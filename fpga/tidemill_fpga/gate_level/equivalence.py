# amaranth: UnusedElaboratable=no
"""Formal equivalence of blocks: RTL against mapped netlist, `python -m tidemill_fpga.gate_level.equivalence`.

Both sides come from the same RTLIL; one goes through the family's recipe. Yosys pairs registers by name; every pair is
then proved equal by induction, so that the whole is. A proof says nothing about multiplier blocks, which are the same
black box on both sides.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import click
from amaranth.back import rtlil
from amaranth.lib import wiring
from rich.console import Console
from rich.table import Table

from tidemill.config import PRESETS, Config
from tidemill_fpga.families.ecp5_multipliers import fabric_multiplier
from tidemill_fpga.gate_level.netlist import find_family, yosys_models
from tidemill_fpga.tools import QUIET, YOSYS, ToolError
from tidemill_hdl.csr.axilite import AxiLiteBridge
from tidemill_hdl.csr.counters import Counters
from tidemill_hdl.frontend.decoder import Decoder
from tidemill_hdl.frontend.loops import LoopStack
from tidemill_hdl.matrix.pe import ProcessingElement
from tidemill_hdl.prim.nest import AddressNest
from tidemill_hdl.prim.queue import SkidBuffer

FAMILY = "ecp5"
LIMIT = 180.0
"""Seconds a block may take."""
TINY: Config = PRESETS["tiny"]

BLOCKS: dict[str, Callable[[], wiring.Component]] = {
    "processing element": lambda: ProcessingElement(TINY.psum_bits, 3),
    "skid buffer": lambda: SkidBuffer(32),
    "address nest": lambda: AddressNest((12, 12, 12), (16,)),
    "AXI4-Lite bridge": AxiLiteBridge,
    "counters": Counters,
    "decoder": Decoder,
    "loop stack": lambda: LoopStack(TINY),
}

_READ = """\
{read}
read_verilog -defer models.v
hierarchy -top top
proc
flatten
memory_map
opt -full
dffunmap
opt_clean
rename top {name}
design -stash {name}
"""
_PROVE = """\
design -copy-from gold gold
design -copy-from gate gate
equiv_make gold gate equiv
hierarchy -top equiv
equiv_struct
equiv_simple
equiv_induct
equiv_status
"""
_STATUS = re.compile(r"Of those cells (\d+) are proven and (\d+) are unproven")


@dataclass(frozen=True)
class Result:
    """`proven` of `points` pairs are equal; `seconds` with synthesis. `failure` says why there are no numbers."""

    block: str
    points: int
    proven: int
    seconds: float
    failure: str = ""

    @property
    def closed(self) -> bool:
        """Whether the netlist is proved to be equivalent."""
        return not self.failure and 0 < self.points == self.proven


def formal_models(family: str = FAMILY) -> str:
    """The cell models that come with Yosys, without the initial value of ECP5's flip-flop, which it computes in a way
    that Yosys itself does not read (proofs by induction start anywhere), and without the content of large RAMs."""
    defines = "".join(f"`define {name}\n" for name in find_family(family).model_defines)
    texts = [file.read_text() for file in yosys_models(family)]
    return f"`define EQUIV\n{defines}" + "".join(texts).replace("initial Q = srval;", "")


def prove(name: str, folder: Path, limit: float = LIMIT, spoil: Callable[[str], str] = lambda gates: gates) -> Result:
    """Map block `name` and prove the netlist equivalent to its RTL, in `folder`; `spoil` changes the netlist's Verilog
    on the way. What takes longer than `limit` seconds is given up."""
    family = find_family(FAMILY)
    design = rtlil.convert(
        BLOCKS[name](), platform=SimpleNamespace(get_multiplier=fabric_multiplier), name="top", emit_src=False
    )
    (folder / "design.il").write_text(design)
    start = time.monotonic()
    try:
        family.synthesize(folder, QUIET, "write_verilog -noattr -norename gate.v")
        (folder / "gate.v").write_text(spoil((folder / "gate.v").read_text()))
        left = max(0.0, limit - (time.monotonic() - start))
        proven, points = compare("read_rtlil plain.il", "read_verilog gate.v", folder, left)
    except ToolError as error:
        return Result(name, 0, 0, time.monotonic() - start, str(error))
    return Result(name, points, proven, time.monotonic() - start)


def compare(
    read_gold: str, read_gate: str, folder: Path, limit: float = LIMIT, family: str = FAMILY
) -> tuple[int, int]:
    """(pairs proved equal, pairs) of two modules `top`, which the Yosys commands read, with the models of the cells in
    them. Raises `ToolError`, also after `limit` seconds."""
    (folder / "models.v").write_text(formal_models(family))
    (folder / "prove.ys").write_text(
        "".join(_READ.format(read=read, name=name) for read, name in ((read_gate, "gate"), (read_gold, "gold")))
        + _PROVE
    )
    log = YOSYS.run(["-s", "prove.ys"], folder, "prove.log", limit=limit)
    proven, unproven = (int(number) for number in _STATUS.findall(log)[-1])
    return proven, proven + unproven


@click.command()
@click.argument("blocks", nargs=-1)
@click.option("--limit", type=click.FloatRange(1), default=LIMIT, show_default=True, help="Seconds a block may take.")
def main(blocks: tuple[str, ...], limit: float) -> None:
    """Prove mapped BLOCKS (default: all) equivalent to their RTL. Exit code 1: one is not."""
    for name in blocks:
        if name not in BLOCKS:
            raise click.BadParameter(f"unknown block {name!r}; known blocks: {', '.join(BLOCKS)}")
    table = Table("block", "proven", "seconds", "", title=f"Netlist and RTL, {FAMILY}")
    closed = True
    with Console(stderr=True).status("") as status:
        for name in blocks or BLOCKS:
            status.update(name)
            with TemporaryDirectory() as folder:
                result = prove(name, Path(folder), limit)
            closed &= result.closed
            verdict = "equivalent" if result.closed else result.failure.splitlines()[0] if result.failure else "open"
            table.add_row(name, f"{result.proven} of {result.points}", f"{result.seconds:.0f}", verdict)
    Console().print(table)
    sys.exit(0 if closed else 1)


if __name__ == "__main__":
    main()
