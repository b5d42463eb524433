"""The program builder and the program file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tidemill import program_file
from tidemill.builder import BuildError, ProgramBuilder, acc, spad
from tidemill.config import preset
from tidemill.isa import decode
from tidemill.program import Program
from tidemill.program_file import ProgramFileError


def example() -> Program:
    b = ProgramBuilder(preset("tiny"))
    a = b.buffer("A", "int16", (2, 4), np.arange(8).reshape(2, 4))
    ready = b.semaphore("ready")
    with b.register() as pointer, b.loop(pointer + 3):
        b.ld_run(dst=spad(4) + pointer, dram=a + 8, n0=1, signal=[ready])
        b.vx_add(dst=acc(1), a=spad(0), b=-5, wait=ready, post="rq")
    b.halt()
    return b.build()


def test_operands_become_fields_and_relocations() -> None:
    program = example()
    loop, load, add = (decode(word).values for word in program.words[:3])
    assert (loop["count"], loop["rs"], loop["length"]) == (3, 1, 3)
    assert (load["dst"], load["ra"], load["dram"], load["signal"]) == (4, 1, 8, 1)
    assert (add["dst"], add["b"], add["b_imm"], add["wait"], add["post"]) == (0x8001, 0xFFFB, 1, 1, 1)
    assert [(r.index, r.field, r.buffer) for r in program.relocations] == [(1, "dram", "A")]
    assert program.buffers["A"].data == np.arange(8, dtype="<i2").tobytes()


@pytest.mark.parametrize(
    ("operands", "message"),
    [
        ({"dst": spad(4096), "dram": 0}, "'dst': spad row 4096 is not in 0..4095"),
        ({"dst": acc(512), "dram": 0}, "'dst': acc row 512 is not in 0..511"),
        ({"dst": spad(0), "dram": 0, "n0": 4096}, "'n0': 4096 is not in 0..4095"),
        ({"dst": 0, "dram": 0}, "'dst': 0 is not a local address"),
        ({"dst": spad(0), "drma": 0}, "no field 'drma'; did you mean 'dram'?"),
    ],
)
def test_errors_name_field_value_and_range(operands: dict[str, object], message: str) -> None:
    with pytest.raises(BuildError, match=message.replace("?", r"\?")):
        ProgramBuilder(preset("tiny")).op("ld.run", **operands)


def test_loops_deeper_or_longer_than_the_hardware_are_refused() -> None:
    b = ProgramBuilder(preset("tiny"))
    for _ in range(4):
        b.loop_begin(2)
    with pytest.raises(BuildError, match="loop_depth = 4"):
        b.loop_begin(2)
    b = ProgramBuilder(preset("tiny"))
    b.loop_begin(2)
    for _ in range(63):
        b.nop()
    with pytest.raises(BuildError, match="ibuf_depth = 64"):
        b.loop_end()


def test_registers_run_out_and_come_back() -> None:
    b = ProgramBuilder(preset("tiny"))
    registers = [b.register() for _ in range(15)]
    with pytest.raises(BuildError, match="no scalar register left"):
        b.register()
    b.free(registers[4])
    assert b.register().number == 5


def test_a_file_keeps_the_program(tmp_path: Path) -> None:
    path = tmp_path / "k.tmb"
    program_file.save(example(), path)
    assert program_file.load(path) == example()
    assert [entry.name for entry in tmp_path.iterdir()] == ["k.tmb"]


def test_damaged_files_are_refused() -> None:
    content = program_file.to_bytes(example())
    for length in range(len(content)):
        with pytest.raises(ProgramFileError, match=r"^k\.tmb: "):
            program_file.from_bytes(content[:length], "k.tmb")
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        with pytest.raises(ProgramFileError, match=r"^k\.tmb: "):
            program_file.from_bytes(bytes(damaged), "k.tmb")
