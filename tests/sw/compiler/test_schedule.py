"""The scheduler keeps sequential meaning: random streams give the same bytes as with a fence after each instruction."""

import numpy as np
import pytest

import tidemill as tm
from tidemill.builder import acc, spad
from tidemill.checker import check
from tidemill.compiler.memory import OutOfRows, Ring
from tidemill.compiler.schedule import Dependencies, schedule
from tidemill.compiler.stream import Stream
from tidemill.isa import encode
from tidemill.program import Program, Relocation

ROWS = 24
"""Rows that the random instructions fight for, in each memory and in each buffer."""


def random_stream(config: tm.Config, rng: np.random.Generator, count: int) -> Stream:
    """Random loads, stores, products and vector operations on few rows, so that nearly all depend on each other."""
    stream = Stream(config)
    image = stream.buffer("image", "int8", (ROWS, config.dim))
    work = stream.buffer("work", "int8", (ROWS, config.dim))
    sums = stream.buffer("sums", "int32", (ROWS, config.dim))
    for _ in range(count):
        n = int(rng.integers(1, 7))
        row, other, third = (int(value) for value in rng.integers(0, ROWS - n + 1, 3))
        match rng.integers(7):
            case 0:
                stream.ld_run(dst=spad(row), dram=(image, work)[rng.integers(2)] + other * config.dim, n0=n)
            case 1:
                stream.ld_run(dst=acc(row), dram=sums + other * config.acc_row_bytes, n0=n)
            case 2:
                stream.st_run(src=spad(row), dram=work + other * config.dim, n0=n)
            case 3:
                stream.st_run(src=acc(row), dram=sums + other * config.acc_row_bytes, n0=n)
            case 4:
                stream.mx_wload(src=spad(int(rng.integers(0, ROWS - config.rows + 1))))
                stream.mx_act(n0=n, s0=1)
                stream.mx_acc(t0=1)
                stream.mx_run(act=spad(row), acc=acc(other), accumulate=int(rng.integers(2)))
            case 5:
                stream.vx_dims(n0=n, d0=1)
                stream.vx_astride(n0=1)
                stream.vx_bstride(n0=1)
                stream.vx_add(dst=spad(row), a=acc(other), b=acc(third))
            case _:
                stream.vx_dims(n0=n, d0=1)
                stream.vx_astride(n0=1)
                stream.vx_add(dst=acc(row), a=spad(other), b=int(rng.integers(-9, 9)))
    stream.end_segment()
    return stream


def fenced(stream: Stream) -> Program:
    """The stream with a fence after every instruction."""
    words: list[int] = []
    relocations = []
    for instruction in stream.instructions:
        if instruction.buffer is not None:
            relocations.append(Relocation(len(words), "dram", instruction.buffer))
        words += [instruction.word, encode("fence")]
    return Program(stream.config, (*words, encode("halt")), dict(stream.buffers), tuple(relocations))


def clear(npu: tm.Npu) -> None:
    """Zero the rows that random streams use."""
    stream = Stream(npu.config)
    zeros = stream.constant(np.zeros((ROWS, npu.config.dim), np.int32))
    stream.ld_run(dst=spad(0), dram=zeros, n0=ROWS)
    stream.ld_run(dst=acc(0), dram=zeros, n0=ROWS)
    stream.end_segment()
    loaded = npu.load(schedule(stream, ["clear"]).program)
    npu.run(loaded)
    loaded.free()


@pytest.mark.parametrize(("preset", "device"), [("tiny", "iss"), ("base", "iss"), ("tiny", "rtl")])
def test_random_streams_keep_their_meaning(preset: str, device: str) -> None:
    config = tm.preset(preset)
    with tm.open(device, config=config) as npu:
        for seed in range(8):
            rng = np.random.default_rng(seed)
            stream = random_stream(config, rng, 120)
            program = schedule(stream, ["random"]).program
            assert check(program) == []
            inputs = {
                "image": rng.integers(-128, 128, (ROWS, config.dim), np.int8),
                "work": rng.integers(-128, 128, (ROWS, config.dim), np.int8),
                "sums": rng.integers(-(2**31), 2**31, (ROWS, config.dim)).astype(np.int32),
            }
            results = []
            for candidate in (fenced(stream), program):
                clear(npu)
                loaded = npu.load(candidate)
                results.append(npu.run(loaded, inputs, outputs=["work", "sums"]).outputs)
                loaded.free()
            for name in ("work", "sums"):
                assert np.array_equal(results[0][name], results[1][name]), f"seed {seed}: {name}"


def test_a_forgotten_dependency_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the waits for loads the checker reports what is unordered."""
    wait = Dependencies._wait

    def forgetful(self: Dependencies, node: object, producer: int, number: int) -> None:
        if producer != 0:
            wait(self, node, producer, number)  # type: ignore[arg-type]

    monkeypatch.setattr(Dependencies, "_wait", forgetful)
    stream = random_stream(tm.preset("tiny"), np.random.default_rng(1), 60)
    findings = check(schedule(stream, ["random"]).program)
    assert any(finding.severity == "error" for finding in findings)


def test_a_ring_never_hands_out_a_live_row() -> None:
    rng = np.random.default_rng(3)
    ring = Ring("test", 100, 64)
    live = []
    refused = 0
    for _ in range(500):
        if live and rng.random() < 0.5:
            ring.release(live.pop(int(rng.integers(len(live)))))
        try:
            region = ring.take(int(rng.integers(1, 30)))
        except OutOfRows:
            refused += 1
            continue
        assert region.start >= 100
        assert region.start + region.rows <= 164
        for other in live:
            assert region.start >= other.start + other.rows or other.start >= region.start + region.rows
        live.append(region)
    assert refused


@pytest.mark.parametrize("loads_first", [False, True])
def test_many_signals_stay_within_a_semaphore(loads_first: bool) -> None:
    """Four hundred loads that the vector engine takes one by one: nobody runs further ahead than a semaphore counts."""
    config = tm.preset("base")
    stream = Stream(config)
    image = stream.buffer("image", "int8", (400, config.dim))
    result = stream.buffer("result", "int8", (400, config.dim))

    def load(row: int) -> None:
        stream.ld_run(dst=spad(row), dram=image + row * config.dim, n0=1)

    for row in range(400 if loads_first else 0):
        load(row)
    for row in range(400):
        if not loads_first:
            load(row)
        stream.vx_dims(n0=1, d0=1)
        stream.vx_astride(n0=1)
        stream.vx_add(dst=spad(1000 + row), a=spad(row), b=1)
        stream.st_run(src=spad(1000 + row), dram=result + row * config.dim, n0=1)
    stream.end_segment()
    program = schedule(stream, ["many"]).program
    assert check(program) == []
    with tm.open("iss", config=config) as npu:
        data = np.arange(400 * config.dim, dtype=np.int64).astype(np.int8).reshape(400, -1) // 2
        run = npu.run(npu.load(program), {"image": data}, ["result"])
    assert np.array_equal(run.outputs["result"], data + 1)


def test_regions_that_fill_a_ring_lie_in_a_row() -> None:
    ring = Ring("test", 0, 64)
    ring.release(ring.take(20))
    ring.make_room(64)
    assert [ring.take(16).start for _ in range(4)] == [0, 16, 32, 48]
