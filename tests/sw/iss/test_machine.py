"""Every instruction against plain loops written here, on random memories and random strides."""

from __future__ import annotations

import numpy as np
import pytest

from tidemill.config import preset
from tidemill.csr import Cause, offset
from tidemill.golden import requant
from tidemill.isa import Post, RequantMode, encode
from tidemill.iss.device import IssDevice
from tidemill.iss.engines import Window
from tidemill.iss.machine import Machine
from tidemill.iss.timing import Timing

CONFIG = preset("tiny")
R, C = CONFIG.rows, CONFIG.cols
ACC = 1 << 15
PROGRAM = 0xF000
MEMORY = 1 << 16
DATA = Window(0, PROGRAM - 1)
MNEMONICS = ("vx.add", "vx.sub", "vx.mul", "vx.min", "vx.max", "vx.shl", "vx.shr", "vx.clamp", "vx.maxpool")


def make(seed: int) -> tuple[Machine, np.random.Generator]:
    """A machine whose memories hold random bytes."""
    rng = np.random.default_rng(seed)
    machine = Machine(CONFIG, rng.integers(0, 256, MEMORY, dtype=np.uint8), Timing())
    machine.local.spad[:] = rng.integers(-128, 128, machine.local.spad.shape, dtype=np.int8)
    machine.local.acc[:] = rng.integers(-(1 << 31), 1 << 31, machine.local.acc.shape, dtype=np.int64)
    return machine, rng


def place(machine: Machine, words: list[int]) -> None:
    image = b"".join(word.to_bytes(16, "little") for word in words)
    machine.dram[PROGRAM : PROGRAM + len(image)] = np.frombuffer(image, np.uint8)


def execute(machine: Machine, *words: int, watchdog: int = 1000) -> Machine:
    """Run `words` and a final halt to the end."""
    program = [*words, encode("halt")]
    place(machine, program)
    machine.start(PROGRAM, len(program), DATA, DATA, watchdog)
    machine.advance(10_000_000, lambda: False)
    assert not machine.busy
    return machine


def wrap(value: int) -> int:
    return (int(value) + (1 << 31)) % (1 << 32) - (1 << 31)


@pytest.mark.parametrize("seed", range(12))
def test_load_and_store_move_exactly_the_walk(seed: int) -> None:
    machine, rng = make(seed)
    store, accumulators = bool(seed & 1), bool(seed & 2)
    n0, n1, n2 = (int(n) for n in rng.integers(1, 5, 3))
    if not store and seed % 5 == 4:
        n0 = 0
    low, high, value = (0, 0, 0) if store else (int(rng.integers(0, 3)), int(rng.integers(0, 3)), -7)
    d1, d2 = int(rng.integers(-9, 10)), int(rng.integers(-40, 41))
    unit = CONFIG.axi_bytes if store else 1
    s1, s2 = int(rng.integers(-50, 51)) * unit, int(rng.integers(-300, 301)) * unit
    dram, row = 0x4000 + int(rng.integers(0, 100)) * unit, 250
    row_bytes = 4 * C if accumulators else R
    local = machine.local.acc_bytes.copy() if accumulators else machine.local.spad_bytes.copy()
    memory = machine.dram.copy()
    beats = 0
    for p in range(n2):
        for q in range(n1):
            first = dram + p * s2 + q * s1
            if n0:
                beats += (first + n0 * row_bytes - 1) // CONFIG.axi_bytes - first // CONFIG.axi_bytes + 1
            for i in range(low + n0 + high):
                r = row + p * d2 + q * d1 + i
                at = first + (i - low) * row_bytes
                if store:
                    memory[at : at + row_bytes] = local[r]
                elif low <= i < low + n0:
                    local[r] = memory[at : at + row_bytes]
                else:
                    local[r] = value & 0xFF
    address = row | (ACC if accumulators else 0)
    counts = {"n0": n0, "n1": n1, "n2": n2, "dram": dram}
    if store:
        words = [
            encode("st.stride", s1=s1, s2=s2),
            encode("st.src", d1=d1, d2=d2),
            encode("st.run", src=address, **counts),
        ]
    else:
        words = [
            encode("ld.stride", s1=s1, s2=s2),
            encode("ld.dst", d1=d1, d2=d2, pad_lo=low, pad_hi=high, value=value),
            encode("ld.run", dst=address, **counts),
        ]
    execute(machine, *words)
    assert machine.done
    np.testing.assert_array_equal(machine.dram[:PROGRAM], memory[:PROGRAM])
    np.testing.assert_array_equal(machine.local.acc_bytes if accumulators else machine.local.spad_bytes, local)
    assert machine.counter("WRITE_BEATS" if store else "READ_BEATS") == beats


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("accumulate", [0, 1])
def test_matrix_run_multiplies_along_its_walks(seed: int, accumulate: int) -> None:
    machine, rng = make(seed)
    n0, n1, n2 = (int(n) for n in rng.integers(1, 6, 3))
    s = [int(v) for v in rng.integers(-20, 21, 3)]
    t = [int(v) for v in rng.integers(-12, 13, 3)]
    stride = int(rng.integers(-5, 6))
    weights = [machine.local.spad[900 + r * stride].astype(int) for r in range(R)]
    expected = machine.local.acc.copy()
    for i2 in range(n2):
        for i1 in range(n1):
            for i0 in range(n0):
                x = machine.local.spad[500 + i2 * s[2] + i1 * s[1] + i0 * s[0]]
                target = 250 + i2 * t[2] + i1 * t[1] + i0 * t[0]
                for c in range(C):
                    y = sum(int(x[r]) * int(weights[r][c]) for r in range(R))
                    expected[target, c] = wrap(y + (int(expected[target, c]) if accumulate else 0))
    execute(
        machine,
        encode("mx.act", n0=n0, n1=n1, n2=n2, s0=s[0], s1=s[1], s2=s[2]),
        encode("mx.acc", t0=t[0], t1=t[1], t2=t[2]),
        encode("mx.wload", src=900, stride=stride),
        encode("mx.run", act=500, acc=ACC | 250, accumulate=accumulate),
    )
    assert machine.done
    assert machine.counter("MATRIX_ROWS") == n0 * n1 * n2
    np.testing.assert_array_equal(machine.local.acc, expected)


def test_weights_stay_for_runs_without_swap_and_start_at_zero() -> None:
    machine, _ = make(3)
    spad = machine.local.spad.astype(int)
    execute(
        machine,
        encode("mx.run", act=1, acc=ACC | 5, swap=0),
        encode("mx.wload", src=16),
        encode("mx.run", act=1, acc=ACC | 6),
        encode("mx.wload", src=32),
        encode("mx.run", act=2, acc=ACC | 7, swap=0),
        encode("mx.run", act=2, acc=ACC | 8),
    )
    assert machine.done
    np.testing.assert_array_equal(machine.local.acc[5], 0)
    np.testing.assert_array_equal(machine.local.acc[6], spad[1] @ spad[16 : 16 + R])
    np.testing.assert_array_equal(machine.local.acc[7], spad[2] @ spad[16 : 16 + R])
    np.testing.assert_array_equal(machine.local.acc[8], spad[2] @ spad[32 : 32 + R])


def alu(mnemonic: str, a: int, b: int, qmin: int, qmax: int) -> int:
    low = [(value + 0x8000) % 0x10000 - 0x8000 for value in (a, b)]
    return wrap(
        {
            "vx.add": a + b,
            "vx.sub": a - b,
            "vx.mul": low[0] * low[1],
            "vx.min": min(a, b),
            "vx.max": max(a, b),
            "vx.shl": a << (b & 31),
            "vx.shr": a >> (b & 31),
            "vx.clamp": min(max(a, qmin), qmax),
            "vx.maxpool": a,
        }[mnemonic]
    )


@pytest.mark.parametrize("post", list(Post))
@pytest.mark.parametrize("mnemonic", MNEMONICS)
def test_vector_operations_fold_and_post_process(mnemonic: str, post: Post) -> None:
    seed = 100 * MNEMONICS.index(mnemonic) + post
    machine, rng = make(seed)
    local = machine.local
    a_acc, b_acc, to_acc, b_imm = (bool(bit) for bit in rng.integers(0, 2, 4))
    n0, n1, k0, k1 = (int(n) for n in rng.integers(1, 4, 4))
    sa, sb = ([int(v) for v in rng.integers(-6, 7, 4)] for _ in range(2))
    number = int(rng.integers(-(1 << 15), 1 << 15))
    qmin, qmax, zero_point, preshift = -100, 90, -3, 2
    mode = RequantMode(seed % 3)
    local.acc[100:103] = rng.integers(0, 1 << 30, (3, C))
    local.acc[102] = rng.integers(-12, 3, C)
    table = local.acc[200 : 200 + 256 // C].reshape(-1).copy()
    parameters = local.acc[100:103].copy()
    memory_a, memory_b = (local.acc if space else local.spad for space in (a_acc, b_acc))
    rows = []
    for i1 in range(n1):
        for i0 in range(n0):
            values = []
            for j1 in range(k1):
                for j0 in range(k0):
                    steps = (i0, i1, j0, j1)
                    a = memory_a[330 + sum(i * s for i, s in zip(steps, sa, strict=True))]
                    b = memory_b[390 + sum(i * s for i, s in zip(steps, sb, strict=True))]
                    lanes = [number] * C if b_imm else [int(v) for v in b]
                    values.append([alu(mnemonic, int(x), y, qmin, qmax) for x, y in zip(a, lanes, strict=True)])
            fold = {"vx.min": min, "vx.max": max, "vx.maxpool": max}.get(mnemonic, sum)
            rows.append([wrap(fold(lane)) for lane in zip(*values, strict=True)])
    v = np.array(rows)
    if post is Post.RQ:
        v = requant.requantize(v, *parameters, zero_point=zero_point, preshift=preshift, mode=mode)
        v = v if to_acc else np.clip(v, qmin, qmax)
    elif post is Post.LUT:
        v = table[v & 255]
    elif post is Post.LSUM:
        v = np.array([[wrap(int(row.sum()))] * C for row in v])
    elif post is Post.LMAX:
        v = np.array([[row.max()] * C for row in v])
    expected = local.acc.copy() if to_acc else local.spad.copy()
    for position, row in enumerate(v):
        expected[450 + position // n0 * 11 + position % n0 * 2] = row if to_acc else np.clip(row, -128, 127)
    names = ("n0", "n1", "k0", "k1")
    execute(
        machine,
        encode("vx.quant", zero_point=zero_point, qmin=qmin, qmax=qmax, preshift=preshift, mode=mode),
        encode("vx.param", src=ACC | 100),
        encode("vx.lut", src=ACC | 200),
        encode("vx.dims", n0=n0, n1=n1, k0=k0, k1=k1, d0=2, d1=11),
        encode("vx.astride", **dict(zip(names, sa, strict=True))),
        encode("vx.bstride", **dict(zip(names, sb, strict=True))),
        encode(
            mnemonic,
            dst=450 | (ACC if to_acc else 0),
            a=330 | (ACC if a_acc else 0),
            b=number if b_imm else 390 | (ACC if b_acc else 0),
            b_imm=int(b_imm),
            post=post,
        ),
    )
    assert machine.done
    np.testing.assert_array_equal(local.acc if to_acc else local.spad, expected)
    assert machine.counter("VECTOR_ROWS") == n0 * n1 * k0 * k1 + 3 + 256 // C


def test_nested_loops_and_registers_move_addresses() -> None:
    machine, _ = make(5)
    before = machine.local.spad.copy()
    execute(
        machine,
        encode("addi", rd=1, rs=0, imm=3),
        encode("loop", count=2, rs=1, length=7),
        encode("loop", count=2, rs=0, length=3),
        encode("vx.add", dst=1000, a=100, b=1, b_imm=1, ra=2, rb=3),
        encode("addi", rd=2, rs=2, imm=1),
        encode("endloop"),
        encode("slli", rd=3, rs=2, amount=2),
        encode("sub", rd=3, rs=3, rt=1),
        encode("endloop"),
        encode("loop", count=0, rs=0, length=2),
        encode("irq", code=1),
        encode("endloop"),
        encode("irq", code=2),
        encode("add", rd=0, rs=2, rt=2),
    )
    expected = before.copy()
    offset = destination = 0
    for _ in range(5):
        for _ in range(2):
            expected[1000 + destination] = np.clip(before[100 + offset].astype(int) + 1, -128, 127)
            destination += 1
        offset = 4 * destination - 3
    assert machine.done
    assert machine.user_codes == [2]
    np.testing.assert_array_equal(machine.local.spad, expected)
    assert machine.counter("INSTRUCTIONS") == 2 + 5 * (1 + 2 * 3 + 3) + 1 + 2 + 1


def test_semaphores_order_a_double_buffered_chain() -> None:
    machine, _ = make(6)
    source = machine.dram[: 32 * R].copy()
    words = [
        encode("ld.sync"), encode("vx.dims", n0=8, d0=1), encode("vx.astride", n0=1), encode("vx.sync", signal=0b1100)
    ]  # fmt: skip
    for part in range(4):
        half = part & 1
        words.append(encode("ld.run", dst=100 * half, dram=part * 8 * R, n0=8, wait=4 << half, signal=1 << half))
    for part in range(4):
        half = part & 1
        words.append(encode("vx.add", dst=300 + 8 * part, a=100 * half, b=0, b_imm=1, wait=1 << half, signal=4 << half))
    execute(machine, *words)
    assert machine.done
    np.testing.assert_array_equal(machine.local.spad_bytes[300:332].reshape(-1), source)


def test_fence_orders_engines_without_semaphores() -> None:
    machine, _ = make(7)
    data = machine.dram[64 : 64 + R].copy()
    execute(
        machine,
        encode("ld.run", dst=9, dram=64, n0=1),
        encode("fence", engines=1),
        encode("st.run", src=9, dram=4096, n0=1),
    )
    np.testing.assert_array_equal(machine.dram[4096 : 4096 + R], data)


def test_configuration_is_reset_at_start_and_the_table_is_kept() -> None:
    machine, _ = make(8)
    execute(machine, encode("vx.dims", n0=9, d0=1), encode("vx.lut", src=ACC | 10), encode("mx.act", n0=7))
    table = machine.local.acc[10 : 10 + 256 // C].reshape(-1).copy()
    machine.local.acc[10:] = 0
    value = machine.local.spad[3].astype(int)
    before = machine.local.acc.copy()
    look_up = encode("vx.add", dst=ACC | 20, a=3, b=0, b_imm=1, post=Post.LUT)
    execute(machine, look_up, encode("mx.run", act=0, acc=ACC, swap=0))
    before[20] = table[value & 255]
    before[0] = 0
    np.testing.assert_array_equal(machine.local.acc, before)


def test_a_queue_holds_the_frontend_back() -> None:
    machine, _ = make(9)
    long = [encode("ld.run", dst=0, dram=0, n0=512)] * (CONFIG.queue_depth + 6)
    execute(machine, *long)
    assert machine.done
    assert machine.counter("QUEUE_FULL") > 0


def test_an_unlimited_deadlock_only_lets_time_pass() -> None:
    machine, _ = make(10)
    program = [encode("ld.sync", wait=1), encode("halt")]
    place(machine, program)
    machine.start(PROGRAM, 2, DATA, DATA, 0)
    assert not machine.advance(5000, lambda: False)
    assert machine.busy
    assert machine.now == 5000
    execute(machine, encode("ld.sync", wait=1), watchdog=100)
    assert machine.failure is not None
    assert machine.failure.cause is Cause.WATCHDOG


def test_start_registers_keep_only_the_bits_that_exist() -> None:
    device = IssDevice(preset("tiny"), mem_size=1 << 12)
    device.csr_write(offset("PROG_ADDR"), 0xFFFF_FFFF)
    device.csr_write(offset("PROG_LEN"), 0xFFFF_FFFF)
    assert device.csr_read(offset("PROG_ADDR")) == 0xFFFF_FFF0
    assert device.csr_read(offset("PROG_LEN")) == 0xFF_FFFF
