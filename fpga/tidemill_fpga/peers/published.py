"""Published int8 arrays: where they come from, and how they are put into our flow. None of their code is kept here."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tidemill_fpga.tools import YOSYS, ToolError

_MODULE = "published"
_SOURCE = re.compile(r"^ *attribute \\src .*\n", re.MULTILINE)

_MULTIPLIER = """\
module dsp_multiplier(input signed [7:0] dataa, input signed [7:0] datab, output signed [15:0] result);
  assign result = dataa * datab;
endmodule
"""
"""What the Intel block of tiny-tpu computes."""


@dataclass(frozen=True)
class Published:
    """An array somebody published.

    Members
    -------
    name, repository, commit : str: what was measured.
    licence : str: what its repository says of it.
    top : str: the array's module.
    files : tuple of str: Verilog, relative to the repository.
    parameters : function: rows and columns (they are equal) to the parameters of `top`.
    inputs, outputs : function: the same to the width of each port besides clock and reset; outputs nobody needs are
        left out, so that the tools take away what feeds only them.
    clock : str: port.
    reset : str or None: port, active low.
    sum_bits : int: of a sum.
    kind : str: what stays and what moves.
    vendor : mapping: Verilog of blocks that the repository takes from a vendor, by file name.
    """

    name: str
    repository: str
    commit: str
    licence: str
    top: str
    files: tuple[str, ...]
    parameters: Callable[[int], Mapping[str, int]]
    inputs: Callable[[int], Mapping[str, int]]
    outputs: Callable[[int], Mapping[str, int]]
    clock: str
    reset: str | None
    sum_bits: int
    kind: str
    vendor: Mapping[str, str] = field(default_factory=dict)

    def rtlil(self, checkout: Path, size: int) -> str:
        """The array of `size` x `size` as RTLIL, read from the commit in the git repository `checkout` whatever is
        checked out there. Raises `ToolError`, also where the commit is not in it."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            sources = {Path(file).name: self._source(checkout, file) for file in self.files} | dict(self.vendor)
            for file, text in sources.items():
                (folder / file).write_text(text)
            options = "".join(f" -chparam {key} {value}" for key, value in self.parameters(size).items())
            (folder / "read.ys").write_text(
                f"read_verilog -sv {' '.join(sources)}\nhierarchy -check -top {self.top}{options}\n"
                f"rename -top {_MODULE}\nwrite_rtlil array.il\n"
            )
            YOSYS.run(["-q", "-s", "read.ys"], folder, "read.log")
            return _SOURCE.sub("", (folder / "array.il").read_text())

    def _source(self, checkout: Path, file: str) -> str:
        result = subprocess.run(
            ["git", "-C", str(checkout), "show", f"{self.commit}:{file}"], capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise ToolError(
                f"{checkout}: no commit {self.commit} of {self.repository} with {file} in it; "
                f"make it with: git clone https://github.com/{self.repository} FOLDER"
            )
        return result.stdout


class PublishedArray(wiring.Component):
    """A published array of `size` x `size` with its ports; the RTLIL of `Published.rtlil` has to be in the design."""

    def __init__(self, array: Published, size: int) -> None:
        self.array = array
        self.size = size
        inputs = {port: In(bits) for port, bits in array.inputs(size).items()}
        super().__init__(inputs | {port: Out(bits) for port, bits in array.outputs(size).items()})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ports: dict[str, Value] = {f"i_{self.array.clock}": ClockSignal()}
        if self.array.reset is not None:
            ports[f"i_{self.array.reset}"] = ~ResetSignal()
        ports |= {f"i_{port}": getattr(self, port) for port in self.array.inputs(self.size)}
        ports |= {f"o_{port}": getattr(self, port) for port in self.array.outputs(self.size)}
        m.submodules.array = Instance(_MODULE, **ports)
        return m


TINY_TPU = Published(
    name="tiny-tpu",
    repository="cameronshinn/tiny-tpu",
    commit="8218140654667caebd24d4f2b671915d2cf974cf",
    licence="none given",
    top="sysArr",
    files=tuple(f"hardware/hdl/mmu/{name}.v" for name in ("sysArr", "sysArrRow", "pe")),
    parameters=lambda n: {"width_height": n},
    inputs=lambda n: {"active": 1, "datain": 8 * n, "win": 8 * n, "sumin": 16 * n, "wwrite": n},
    outputs=lambda n: {"maccout": 16 * n},
    clock="clk",
    reset=None,
    sum_bits=16,
    kind="weights stay, shifted in along the columns; skewing of rows is outside",
    vendor={"dsp_multiplier.v": _MULTIPLIER},
)


def _axis(latency: int) -> Published:
    return Published(
        name=f"axis-systolic-array, LM={latency}",
        repository="abarajithan11/axis-systolic-array",
        commit="44bbe4ff118f5c2596a66501753cc0a278198f8f",
        licence="none given for the array",
        top="axis_sa",
        files=tuple(f"rtl/sa/{name}.sv" for name in ("axis_sa", "mac", "n_delay", "pe", "tri_buffer")),
        parameters=lambda n: {"R": n, "C": n, "WX": 8, "WK": 8, "WY": 32, "LM": latency, "LA": 1},
        inputs=lambda n: {"s_valid": 1, "s_last": 1, "m_ready": 1, "sx_data": 8 * n, "sk_data": 8 * n},
        outputs=lambda n: {"s_ready": 1, "m_valid": 1, "m_last": 1, "m_data": 32 * n},
        clock="clk",
        reset="rstn",
        sum_bits=32,
        kind="sums stay and are shifted out; AXI streams with backpressure and skewing inside",
    )


AXIS = (_axis(1), _axis(3))
"""With its default multiplier latency, and with as many registers around the multiplier as ours has after it."""
