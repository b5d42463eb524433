"""Wrong input to every command: one clear error, a non-zero exit code, no traceback, nothing half-written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import tidemill as tm
from tidemill import program_file
from tidemill.builder import ProgramBuilder, spad
from tidemill.cli import main

GOOD = """.preset tiny
.sem s
.buffer A, int8, [8, 4]
.buffer C, int8, [8, 4]
ld.run spad[0], A, 8, signal=s
st.run spad[0], C, 8, wait=s
halt
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with the program k.tmb and one array that fits it."""
    monkeypatch.chdir(tmp_path)
    program_file.save(tm.assemble(GOOD), "k.tmb")
    np.save("a.npy", np.zeros((8, 4), np.int8))
    return tmp_path


def refused(*arguments: str) -> str:
    """The one error message of a command that must fail and leave the directory as it is."""
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    errors = [line for line in result.output.splitlines() if "error:" in line.lower()]
    if len(errors) == 2:  # a diagnostic with its source line, then the summary
        assert errors.pop() in (f"tidemill: error: {arguments[1]}: 1 error", "tidemill: error: 1 error in the source")
    assert len(errors) == 1, result.output
    assert before == {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    return errors[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ld.rum spad[0], A, 8", "k.s:5:1: error: unknown instruction 'ld.rum'; did you mean 'ld.run'?"),
        ("irq 65536", "k.s:5:5: error: irq field 'code': 65536 is not in 0..65535"),
        ("ld.run spad[4096], A, 8", "k.s:5:8: error: ld.run field 'dst': spad row 4096 is not in 0..4095"),
        ("ld.run spad[0], B, 8", "k.s:5:17: error: unknown name 'B'"),
        ("ld.run spad[0], A, 9", "k.s:5:1: error: k.s:5 (ld.run): bytes 0..35 of buffer 'A' are not in 0..31"),
        ("loop 3", "k.s:5:1: error: loop without endloop"),
    ],
)
def test_assembly_errors(directory: Path, line: str, message: str) -> None:
    source = GOOD.splitlines()
    source[4] = line
    Path("k.s").write_text("\n".join(source))
    assert refused("asm", "k.s", "--no-check", "-o", "new.tmb").startswith(message)


def test_unordered_accesses(directory: Path) -> None:
    Path("k.s").write_text(GOOD.replace(", wait=s", "").replace(", signal=s", ""))
    for command in ("asm", "check"):
        message = refused(command, "k.s")
        assert message.startswith("k.s:6:1: error: RAW")


def test_files_that_are_no_programs(directory: Path) -> None:
    content = Path("k.tmb").read_bytes()
    middle = len(content) // 2
    for name, damaged, message in (
        ("empty", b"", "empty.tmb: not a Tidemill program (wrong magic)"),
        ("source", GOOD.encode(), "source.tmb: not a Tidemill program (wrong magic)"),
        ("header", content[:30], "header.tmb: truncated: 30 bytes, the header alone has 50"),
        ("cut", content[:-1], f"cut.tmb: truncated: {len(content) - 51} of {len(content) - 50} payload bytes"),
        ("long", content + b"x", f"long.tmb: too long: {len(content) - 49} of {len(content) - 50} payload bytes"),
        ("newer", content[:8] + b"\x02" + content[9:], "newer.tmb: format version 2, this release reads version 1"),
        (
            "corrupt",
            content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "corrupt.tmb: corrupted: the checksum does not match",
        ),
    ):
        Path(f"{name}.tmb").write_bytes(damaged)
        for command in ("run", "disasm", "check"):
            assert refused(command, f"{name}.tmb") == f"tidemill: error: {message}"


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("type", np.zeros((8, 4), np.float32), "holds float32 [8, 4]; buffer 'A' is int8 [8, 4]"),
        ("unsigned", np.zeros((8, 4), np.uint8), "holds uint8 [8, 4]; buffer 'A' is int8 [8, 4]"),
        ("shape", np.zeros((4, 8), np.int8), "holds int8 [4, 8]; buffer 'A' is int8 [8, 4]"),
        ("text", np.array(["a"]), "holds str32 [1]; buffer 'A' is int8 [8, 4]"),
        ("object", np.array([{}]), "is not a complete .npy file of numbers"),
    ],
)
def test_arrays_that_do_not_fit(directory: Path, name: str, array: np.ndarray, message: str) -> None:
    np.save(f"{name}.npy", array)
    assert refused("run", "k.tmb", "--in", f"A={name}.npy", "--out", "C=c.npy").endswith(f"{name}.npy {message}")


def test_files_that_are_no_arrays(directory: Path) -> None:
    np.savez("z.npz", a=np.zeros(3))
    Path("cut.npy").write_bytes(Path("a.npy").read_bytes()[:-1])
    Path("empty.npy").write_bytes(b"")
    for name in ("z.npz", "cut.npy", "empty.npy", "k.tmb"):
        message = refused("run", "k.tmb", "--in", f"A={name}", "--out", "C=c.npy")
        assert message.endswith(f"{name} is not a complete .npy file of numbers")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "k.tmb", "--in", "B=a.npy"], "k.tmb has no buffer 'B'; its buffers: A, C"),
        (["run", "k.tmb", "--in", "A"], "'A' is not of the form BUFFER=FILE.npy"),
        (["run", "k.tmb", "--in", "A=none.npy"], "none.npy: No such file or directory"),
        (["run", "none.tmb"], "none.tmb: No such file or directory"),
        (["run", "."], ".: Is a directory"),
        (["run", "k.tmb", "--out", "C=none/c.npy"], "none: No such file or directory"),
        (["run", "k.tmb", "--device", "fpga"], "unknown device 'fpga'; known devices: gates, iss, rtl, uart"),
        (["gemm", "--device", "fpga"], "unknown device 'fpga'; known devices: gates, iss, rtl, uart"),
        (["gemm", "--preset", "huge"], "'huge' is not one of 'micro', 'tiny', 'small', 'base', 'large'."),
        (["gemm", "-M", "0"], "0 is not in the range 1<=x<=65536."),
        (["asm", "none.s"], "none.s: No such file or directory"),
        (["asm", "none.s", "--preset", "huge"], "'huge' is not one of 'micro', 'tiny', 'small', 'base', 'large'."),
        (["disasm", "k.tmb", "-o", "none/k.s"], "none: No such file or directory"),
        (["disasm", "k.tmb", "-o", "."], ".: Is a directory"),
        (["fly"], "No such command 'fly'."),
    ],
)
def test_wrong_arguments(directory: Path, arguments: list[str], message: str) -> None:
    assert refused(*arguments).endswith(message)


def test_a_program_that_fails_leaves_no_output(directory: Path) -> None:
    program_file.save(tm.assemble(GOOD.replace(", signal=s", ""), order=False), "stuck.tmb")
    message = refused("run", "stuck.tmb", "--in", "A=a.npy", "--out", "C=c.npy")
    assert message == (
        "tidemill: error: <text>:6: WATCHDOG in SYNC at instruction 1: st.run spad[0], C, 8, wait=s: "
        "no instruction made progress for WATCHDOG cycles (info 0x1: s)"
    )


def test_a_failed_write_leaves_the_old_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("c.npy").write_bytes(b"old")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device", "c.npy")

    monkeypatch.setattr("os.replace", full_disk)
    assert refused("run", "k.tmb", "--in", "A=a.npy", "--out", "C=c.npy").endswith("c.npy: No space left on device")


def test_a_program_for_another_configuration() -> None:
    b = ProgramBuilder(tm.preset("small"))
    b.ld_run(dst=spad(0), dram=0, n0=1)
    b.halt()
    with tm.open("iss", preset="tiny") as npu, pytest.raises(tm.ProgramMismatch, match=r"'small' .* device is 'tiny'"):
        npu.load(b.build())


def test_unknown_presets_and_devices() -> None:
    with pytest.raises(tm.ConfigError, match="unknown preset 'huge'; known presets: micro, tiny, small, base, large"):
        tm.open("iss", preset="huge")
    with pytest.raises(tm.DeviceError, match="unknown device 'fpga'; known devices: gates, iss, rtl, uart"):
        tm.open("fpga")
    for options in ({"mem_size": 5}, {"bandwidth": 0}, {"read_latency": 0}, {"errors": [(9, 8, "slverr", "read")]}):
        with pytest.raises(tm.DeviceError, match=next(iter(options))):
            tm.open("iss", preset="tiny", **options)


A, B = np.zeros((5, 6), np.int8), np.zeros((6, 7), np.int8)


@pytest.mark.parametrize(
    ("operands", "extra", "message"),
    [
        ((A.astype(np.int32), B), {}, r"gemm: A must have dtype int8, not int32"),
        ((A, B.astype(np.uint8)), {}, r"gemm: B must have dtype int8, not uint8"),
        ((A, B[0]), {}, r"gemm: B must have two dimensions of at least 1, not shape \(7,\)"),
        ((A[:0], B), {}, r"gemm: A must have two dimensions of at least 1, not shape \(0, 6\)"),
        ((A, A), {}, r"gemm: A is \(5, 6\) and B is \(5, 6\); A's columns must equal B's rows"),
        ((A, B), {"bias": np.zeros(6, np.int32)}, r"gemm: bias must be int32 \[7\], not int32 \[6\]"),
        ((A, B), {"bias": np.zeros(7)}, r"gemm: bias must be int32 \[7\], not float64 \[7\]"),
        (
            (A, B), {"requant": tm.Requant([1 << 30] * 6, 0)},
            r"requant multiplier has 6 values; the result has 7 columns",
        ),
    ],
)  # fmt: skip
def test_wrong_operands_of_gemm(operands: tuple, extra: dict, message: str) -> None:
    with tm.open("iss", preset="tiny") as npu, pytest.raises(ValueError, match=message):
        tm.gemm(npu, *operands, **extra)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0), "requant multiplier must be in 0..2147483647, not -1"),
        ((1, 32), "requant shift must be in -31..31, not 32"),
        ((1, 0, 128), "requant zero_point must be in -128..127, not 128"),
        ((1, 0, 0, 5, 4), r"requant qmin must be at most qmax \(4\), not 5"),
        ((1, 0, 0, 0, 0, "nearest"), "requant mode must be one of tflite, onnx, not 'nearest'"),
    ],
)
def test_wrong_requantization(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tm.Requant(*arguments)
