"""Bench of the serial bridge: frames, good and broken, on its pin; AXI models behind it."""

from __future__ import annotations

import random
import zlib
from typing import Any

import cocotb
from cocotb.triggers import Timer, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteRam, AxiRam

from tidemill.driver.uart.protocol import (
    ANSWER,
    BREAK_BITS,
    BUS_ERROR,
    CSR_BASE,
    IDLE_BITS,
    LINK_BASE,
    LOCK_VALUE,
    LOCKED,
    MAGIC,
    VERSION,
    Command,
    Register,
)
from tidemill_verif.agents import clock
from tidemill_verif.benches import params

MEMORY, REGISTERS = 1 << 16, 1 << 12


class Bench:
    """The bridge, a host on its pins, memory and registers."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.bit_ns = clock.PERIOD_NS * int(params()["divisor"])
        self.timeout = int(params()["timeout_bits"])
        self.rng = random.Random(int(params()["seed"]))
        self.ram = AxiRam(AxiBus.from_prefix(dut, "m_axi_"), dut.clk, dut.rst, size=MEMORY)
        self.registers = AxiLiteRam(AxiLiteBus.from_prefix(dut, "m_axil_"), dut.clk, dut.rst, size=REGISTERS)
        self.received = bytearray()

    async def start(self) -> None:
        """Reset; random stalls on both buses."""
        self.dut.rx.value = 1
        self.dut.irq.value = 0
        await clock.start(self.dut, 4)
        for model in (self.ram, self.registers):
            write, read = model.write_if, model.read_if
            for channel in (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel):
                pattern = [self.rng.random() < 0.3 for _ in range(61)]
                channel.set_pause_generator(pattern[i % 61] for i in range(10**9))
        self.ram.write(0, self.rng.randbytes(MEMORY))
        self.registers.write(0, self.rng.randbytes(REGISTERS))
        cocotb.start_soon(self.listen())
        await self.bits(IDLE_BITS + 20)

    async def listen(self) -> None:
        """Collect what the bridge sends."""
        while True:
            if self.dut.tx.value:
                await self.dut.tx.falling_edge
            await Timer(3 * self.bit_ns // 2, "ns")
            value = 0
            for index in range(8):
                value |= int(self.dut.tx.value) << index
                await Timer(self.bit_ns, "ns")
            assert self.dut.tx.value, "stop bit"
            self.received.append(value)

    async def bits(self, count: int) -> None:
        """Let bit times pass."""
        if count:
            await Timer(self.bit_ns * count, "ns")

    async def send(self, data: bytes, *, bad_stop: int = -1) -> None:
        """Bytes without gaps; the one at `bad_stop` with a low stop bit."""
        for index, byte in enumerate(data):
            for level in (0, *(byte >> bit & 1 for bit in range(8)), int(index != bad_stop)):
                self.dut.rx.value = level
                await Timer(self.bit_ns, "ns")
            if index == bad_stop:
                self.dut.rx.value = 1
                await Timer(self.bit_ns, "ns")

    async def answer(self, size: int) -> bytes:
        """The next `size` bytes from the bridge."""

        async def collect() -> None:
            while len(self.received) < size:
                await self.bits(1)

        await with_timeout(collect(), self.bit_ns * (30 * size + 4000), "ns")
        answer = bytes(self.received[:size])
        del self.received[:size]
        return answer

    async def silence(self, bits: int = 300) -> None:
        """Nothing is sent for a while."""
        await self.bits(bits)
        assert not self.received, f"unexpected answer {self.received.hex()}"

    async def plain_read(self, address: int, count: int, command: int = Command.READ) -> list[int]:
        """Words by a plain frame."""
        await self.send(bytes([command, count]) + (address >> 2).to_bytes(4, "big"))
        data = await self.answer(4 * count)
        return [int.from_bytes(data[i : i + 4], "big") for i in range(0, len(data), 4)]

    async def checked(self, frame: bytes, count: int = 0) -> tuple[int, bytes]:
        """Status and data of the answer to a checked frame."""
        await self.send(frame)
        answer = await self.answer(2 + 4 * count + 5)
        assert answer[:2] == bytes([ANSWER | frame[0], frame[1]])
        assert zlib.crc32(answer[:-4]).to_bytes(4, "little") == answer[-4:]
        return answer[-5], answer[2:-5]

    async def write(self, sequence: int, address: int, words: list[int]) -> int:
        """A checked write; its status."""
        return (await self.checked(write_frame(sequence, address, words)))[0]

    async def read(self, sequence: int, address: int, count: int) -> tuple[int, list[int]]:
        """A checked read: status and words."""
        status, data = await self.checked(read_frame(sequence, address, count), count)
        return status, [int.from_bytes(data[i : i + 4], "big") for i in range(0, len(data), 4)]

    def memory(self, address: int, count: int) -> list[int]:
        """Words of the memory model."""
        data = self.ram.read(address, 4 * count)
        return [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]

    def words(self, count: int) -> list[int]:
        """Random words."""
        return [self.rng.getrandbits(32) for _ in range(count)]


def plain_write(address: int, words: list[int], command: int = Command.WRITE) -> bytes:
    """A plain write frame."""
    data = b"".join(word.to_bytes(4, "big") for word in words)
    return bytes([command, len(words)]) + (address >> 2).to_bytes(4, "big") + data


def _checked(frame: bytes) -> bytes:
    return frame + zlib.crc32(frame).to_bytes(4, "little")


def write_frame(sequence: int, address: int, words: list[int]) -> bytes:
    """A checked write frame."""
    plain = plain_write(address, words)
    return _checked(bytes([Command.CHECKED_WRITE, sequence]) + plain[1:])


def read_frame(sequence: int, address: int, count: int) -> bytes:
    """A checked read frame."""
    return _checked(bytes([Command.CHECKED_READ, sequence, count]) + (address >> 2).to_bytes(4, "big"))


@cocotb.test()
async def test_plain_frames(dut: Any) -> None:
    """Bursts with counting and standing addresses in memory and registers; writes follow each other without a gap."""
    bench = Bench(dut)
    await bench.start()
    for count in (1, 2, 9, 30):
        address, words = 4 * bench.rng.randrange(MEMORY // 4 - count), bench.words(count)
        before = bench.memory(0, MEMORY // 4)
        await bench.send(plain_write(address, words) + plain_write(CSR_BASE + 0x40, words[:1]))
        assert await bench.plain_read(CSR_BASE + 0x40, 1) == words[:1]
        before[address // 4 : address // 4 + count] = words
        assert bench.memory(0, MEMORY // 4) == before
        assert await bench.plain_read(address, count) == words
    await bench.send(plain_write(0x200, [1, 2, 3], Command.WRITE_FIXED))
    assert await bench.plain_read(0x200, 2, Command.READ_FIXED) == [3, 3]
    assert await bench.plain_read(0x204, 1) == bench.memory(0x204, 1)
    await bench.silence()


@cocotb.test()
async def test_registers_of_the_link(dut: Any) -> None:
    """What they say; only the lock can be written; addresses beside them are bus errors."""
    bench = Bench(dut)
    await bench.start()
    expected = [MAGIC, VERSION, *(int(params()[name]) for name in ("hash", "memory", "clock_hz", "divisor"))]
    status, words = await bench.read(1, LINK_BASE, len(Register))
    assert (status, words) == (0, [*expected, 0, 0])
    dut.irq.value = 1
    assert await bench.write(0x85, LINK_BASE, [0] * 7 + [LOCK_VALUE]) == LOCKED
    status, words = await bench.read(2, LINK_BASE, len(Register))
    assert (status, words) == (LOCKED, [*expected, 3 | 0x85 << 8, 1])
    assert await bench.write(0x86, LINK_BASE, [0] * 8) == 0
    for address in (LINK_BASE + 0x20, CSR_BASE + 0x1000, LINK_BASE + 0x0800_0000):
        assert (await bench.read(3, address, 1))[0] == BUS_ERROR
    assert (await bench.read(4, LINK_BASE, 1))[0] == 0


@cocotb.test()
async def test_checked_frames(dut: Any) -> None:
    """Writes and reads of every length up to the longest, in memory and registers."""
    bench = Bench(dut)
    await bench.start()
    for sequence, count in enumerate((1, 3, 20, int(params()["longest"])), 1):
        address, words = 4 * bench.rng.randrange(MEMORY // 4 - count), bench.words(count)
        before = bench.memory(0, MEMORY // 4)
        assert await bench.write(sequence, address, words) == 0
        before[address // 4 : address // 4 + count] = words
        assert bench.memory(0, MEMORY // 4) == before
        if count < 200:  # the longest read takes no other path
            assert await bench.read(sequence, address, count) == (0, words)
    assert await bench.write(99, CSR_BASE + 0x30, [5, 6]) == 0
    assert await bench.read(100, CSR_BASE + 0x30, 2) == (0, [5, 6])


@cocotb.test()
async def test_a_repeated_write_is_answered_and_not_executed(dut: Any) -> None:
    """The same sequence number again, with a bus error and without; then the next one."""
    bench = Bench(dut)
    await bench.start()
    for sequence, address, status in ((1, 0x40, 0), (2, CSR_BASE + 0xFFC, BUS_ERROR)):
        frame = write_frame(sequence, address, [11, 12])
        assert (await bench.checked(frame))[0] == status
        bench.ram.write(0x40, bytes(8))
        bench.registers.write(0xFFC, bytes(4))
        for _ in range(2):
            assert (await bench.checked(frame))[0] == status
            await bench.read(sequence, 0x40, 2)
        assert bench.memory(0x40, 2) == [0, 0]
        assert bench.registers.read(0xFFC, 4) == bytes(4)
    assert await bench.write(3, 0x40, [7]) == 0
    assert bench.memory(0x40, 1) == [7]


@cocotb.test()
async def test_broken_frames_do_nothing(dut: Any) -> None:
    """Flipped, missing and doubled bytes, bad stop bits, unknown commands, length 0: no effect, no answer, not even to
    a good frame that follows at once."""
    bench = Bench(dut)
    await bench.start()
    good = write_frame(1, 0x80, bench.words(2))
    cases = []
    for place in range(len(good)):
        flipped = bytearray(good)
        flipped[place] ^= 1 << bench.rng.randrange(8)
        cases.append((bytes(flipped), -1))
        cases.append((good[:place] + good[place + 1 :], -1) if place else (good, 0))
        cases.append((good[:place] + good[place : place + 1] + good[place:], -1) if 0 < place < 18 else (good, place))
    cases += [(bytes([command]) + bytes(9), -1) for command in (0, 5, 0x50, 0x53, 0xFF)]
    cases += [(bytes([Command.READ, 0, 0, 0, 0, 0]), -1)]
    before = bench.memory(0, MEMORY // 4)
    for case, bad_stop in bench.rng.sample(cases, int(params()["broken"])):
        await bench.send(case + good[:-1], bad_stop=bad_stop)
        await bench.silence(IDLE_BITS + bench.timeout + 20)
        assert bench.memory(0, MEMORY // 4) == before, f"{case.hex()} changed memory"
    assert (await bench.checked(good))[0] == 0
    assert bench.memory(0x80, 2) != before[0x20:0x22]


@cocotb.test()
async def test_a_lost_bridge_listens_again_after_a_quiet_line(dut: Any) -> None:
    """Shortly before the idle time is over it is still deaf; a frame's pause drops the frame."""
    bench = Bench(dut)
    await bench.start()
    await bench.send(b"\xff")
    await bench.bits(IDLE_BITS - 20)
    await bench.send(read_frame(1, LINK_BASE, 1))
    await bench.silence(IDLE_BITS + 20)
    assert (await bench.read(2, LINK_BASE, 1))[1] == [MAGIC]
    await bench.send(read_frame(3, LINK_BASE, 1)[:5])
    await bench.bits(bench.timeout + 20)
    assert (await bench.read(4, LINK_BASE, 1))[1] == [MAGIC]
    frame = read_frame(5, LINK_BASE, 1)
    await bench.send(frame[:5])
    await bench.bits(bench.timeout - 40)
    await bench.send(frame[5:])
    assert await bench.answer(11)


@cocotb.test()
async def test_the_lock_refuses_plain_frames_and_a_break_clears_it(dut: Any) -> None:
    """Locked: plain frames do nothing, also as the tail of a checked one. A long low level unlocks, a short one not."""
    bench = Bench(dut)
    await bench.start()
    assert await bench.write(1, LINK_BASE, [0] * 7 + [LOCK_VALUE]) == LOCKED
    assert dut.locked.value
    before = bench.memory(0, MEMORY // 4)
    for frame in (plain_write(0x40, [1]), plain_write(0x40, [1], Command.WRITE_FIXED), bytes([2, 1, 0, 0, 0, 0])):
        await bench.send(frame)
        await bench.silence(IDLE_BITS + 20)
    # Without its first two bytes this checked read of one word would be a plain write.
    await bench.send(read_frame(1, 0x01010101, 1)[2:] + bytes(40))
    await bench.silence(IDLE_BITS + 20)
    assert bench.memory(0, MEMORY // 4) == before
    for bits, locked in ((BREAK_BITS - 4, True), (BREAK_BITS + 4, False)):
        dut.rx.value = 0
        await bench.bits(bits)
        dut.rx.value = 1
        await bench.bits(IDLE_BITS + 20)
        assert bool(dut.locked.value) == locked
    assert await bench.plain_read(0x40, 1) == bench.memory(0x40, 1)


@cocotb.test()
async def test_noise_changes_nothing_while_locked(dut: Any) -> None:
    """Random bytes, many of them commands and small numbers, with random pauses."""
    bench = Bench(dut)
    await bench.start()
    assert await bench.write(1, LINK_BASE, [0] * 7 + [LOCK_VALUE]) == LOCKED
    before, registers = bench.memory(0, MEMORY // 4), bench.registers.read(0, REGISTERS)
    for _ in range(20):
        noise = bytes(bench.rng.choice((*Command, 0, 1, 2, bench.rng.randrange(256))) for _ in range(25))
        await bench.send(noise)
        await bench.bits(bench.rng.choice((0, 3, 50, IDLE_BITS + 20)))
    await bench.bits(bench.timeout + IDLE_BITS + 40)
    bench.received.clear()
    assert bench.memory(0, MEMORY // 4) == before
    assert bench.registers.read(0, REGISTERS) == registers
    assert (await bench.read(2, LINK_BASE, 1)) == (LOCKED, [MAGIC])
