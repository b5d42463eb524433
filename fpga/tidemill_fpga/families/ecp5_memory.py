"""Row memories in the block RAMs of the Lattice ECP5, with their output registers."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value

from tidemill_hdl.memory.bank import RowMemory

GEOMETRIES = ((1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
"""Words and bits of a DP16KD. 512 words of 36 bits take the pins of both ports, and which have a register then is
not written down anywhere: not used."""

_ADDRESS_BITS = 14
_DATA_BITS = 18


def geometry(depth: int) -> tuple[int, int]:
    """Words and bits of the widest DP16KD with at least `depth` words. Raises `ValueError` where there is none."""
    for words, bits in GEOMETRIES:
        if words >= depth:
            return words, bits
    raise ValueError(f"a memory of {depth} rows needs more than one block RAM in depth; at most {GEOMETRIES[-1][0]}")


def row_memory(memory: RowMemory) -> Module:
    """`memory` in DP16KDs side by side, port A writing and port B reading through its output register.

    The register in the block takes 5 ns off the way out; Yosys never packs one. Lattice FPGA-TN-02204, "ECP5 and
    ECP5-5G Memory Usage Guide".
    """
    m = Module()
    words, bits = geometry(memory.depth)
    columns: list[Value] = []
    for low in range(0, memory.width, bits):
        width = min(bits, memory.width - low)
        data = Signal(_DATA_BITS, name=f"data{low}")
        out = Signal(_DATA_BITS, name=f"out{low}")
        m.d.comb += data.eq(memory.w_data[low : low + width])
        m.submodules[f"ram{low}"] = _block(memory, (words, bits), data, out)
        columns.append(out[:width])
    m.d.comb += memory.r_data.eq(Cat(columns))
    return m


def _block(memory: RowMemory, size: tuple[int, int], data: Signal, out: Signal) -> Instance:
    words, bits = size
    parameters: dict[str, object] = {
        "DATA_WIDTH_A": bits,
        "DATA_WIDTH_B": bits,
        "REGMODE_A": "NOREG",
        "REGMODE_B": "OUTREG",
        "RESETMODE": "SYNC",
        "ASYNC_RESET_RELEASE": "SYNC",
        "CSDECODE_A": "0b000",
        "CSDECODE_B": "0b000",
        "WRITEMODE_A": "NORMAL",
        "WRITEMODE_B": "NORMAL",
        "GSR": "AUTO",
        **{f"INITVAL_{index:02X}": Const(0, 320) for index in range(64)},
    }
    inputs: dict[str, Value] = {"CLKA": ClockSignal(), "CLKB": ClockSignal()}
    outputs: dict[str, Value] = {}
    # Words of 18 bits have byte enables in the lowest address bits of the writing port.
    shift = _ADDRESS_BITS - (words - 1).bit_length()
    enables = 2 if bits == 18 else 0
    write = Cat(Const((1 << enables) - 1, enables), Const(0, shift - enables), memory.w_addr)
    read = Cat(Const(0, shift), memory.r_addr)
    for pin in range(_ADDRESS_BITS):
        inputs[f"ADA{pin}"] = write[pin] if pin < len(write) else Const(0, 1)
        inputs[f"ADB{pin}"] = read[pin] if pin < len(read) else Const(0, 1)
    for pin in range(_DATA_BITS):
        inputs[f"DIA{pin}"] = data[pin]
        inputs[f"DIB{pin}"] = Const(0, 1)
        outputs[f"DOB{pin}"] = out[pin]
    for port, enable, output, writes in (("A", memory.w_en, Const(1), 1), ("B", memory.r_en, memory.o_en, 0)):
        inputs |= {f"CE{port}": enable, f"OCE{port}": output, f"WE{port}": Const(writes), f"RST{port}": Const(0)}
        inputs |= {f"CS{port}{bit}": Const(0) for bit in range(3)}
    return Instance(
        "DP16KD",
        *[("p", name, value) for name, value in parameters.items()],
        *[("i", name, value) for name, value in inputs.items()],
        *[("o", name, value) for name, value in outputs.items()],
    )
