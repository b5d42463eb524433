"""The cycle model of the simulator: how long each engine takes.

All constants stand in `Timing`; calibrating the model means changing them. The `*Timeline` classes keep what an
engine remembers between instructions. Times are cycles since the start of the program; every `begin` method takes
the cycle in which an instruction leaves its queue and returns the cycle in which it completes, and `ready` is the
first cycle in which the engine takes another instruction.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tidemill.config import Config
from tidemill.isa import INSTRUCTION_BYTES, Post

EXACT_BURSTS = 96
"""Bursts of one transfer that are simulated one by one; the rest go on at the rate reached."""


@dataclass(frozen=True)
class Timing:
    """Named constants of the cycle model, in cycles unless said otherwise."""

    read_latency: int = 20
    """From a read burst's address on the bus to its first beat."""
    write_latency: int = 6
    """From a write burst's last beat to its response."""
    bandwidth: float = 1.0
    """Beats a cycle that the memory delivers or takes, each way; at most 1."""

    start: int = 8
    """From the doorbell to the first fetch request."""
    halt: int = 8
    """From the last engine being idle at `halt` to STATUS.done."""
    dispatch: int = 1
    """The frontend's cycles for an engine instruction."""
    control: int = 1
    """The frontend's cycles for a control instruction."""
    loop_entry: int = 1
    """Extra cycles of `loop` and `slli`."""
    loop_back: int = 0
    """Extra cycles of `endloop` when it goes back."""
    fetch_pipeline: int = 7
    """From an instruction's last beat to its being executable, beside memory latency."""
    queue: int = 4
    """From dispatch to the head of an empty queue."""
    wait: int = 1
    """Extra cycles at the head of a queue for an instruction that waits for semaphores."""
    signal: int = 2
    """From an instruction's completion to its semaphores being visible to the queue heads."""
    config: int = 1
    """An engine's cycles for a configuration or sync instruction."""
    dma_config: int = 5
    """From a configuration or sync instruction leaving the load or store queue to its completion."""

    load_setup: int = 4
    """From ld.run leaving the queue to its first read request."""
    load_line: int = 1
    """The request generator's extra cycles per line."""
    load_burst: int = 1
    """The request generator's cycles per burst."""
    load_command: int = 4
    """From the request generator to the bus and back, beside memory latency."""
    load_slot: int = 1
    """From a burst's last beat to the next burst being allowed in its place."""
    load_gap: int = 1
    """Cycles of the data channel lost between transfers."""
    load_pipeline: int = 8
    """From the last beat to the last row being visible, done included."""
    store_setup: int = 4
    """From st.run leaving the queue to its first write request."""
    store_line: int = 1
    """The request generator's extra cycles per line."""
    store_burst: int = 1
    """The request generator's cycles per burst."""
    store_pipeline: int = 6
    """From requesting a row to its first beat on the bus."""
    store_slot: int = 1
    """From a burst's response to the next burst being allowed in its place."""
    store_done: int = 8
    """From the last response to done."""

    wload_setup: int = 3
    """From mx.wload leaving the queue to its first row read."""
    wload_pipeline: int = 3
    """From the last row read to done; the weights are usable then."""
    run_setup: int = 3
    """From mx.run leaving the queue to its first activation row read."""
    run_gap: int = 1
    """Cycles between the last row of an mx.run and the first of the next."""
    run_pipeline: int = 12
    """From reading the last activation row to done, without the array's rows + cols."""

    vector_setup: int = 4
    """From a vector operation leaving the queue to its first operand read."""
    vector_pipeline: int = 20
    """From the last operand read to the next operation leaving the queue."""
    vector_requant: int = 23
    """Extra pipeline cycles of requantization."""
    vector_table: int = 6
    """Extra pipeline cycles of a table look-up."""
    vector_reduce: int = 9
    """Extra pipeline cycles of a lane reduction."""
    vector_param: int = 34
    """From vx.param leaving the queue to the next operation leaving it."""
    vector_lut: int = 278
    """The same for vx.lut: one table entry a cycle."""
    vector_done: int = 1
    """From the next operation being allowed to done."""
    vector_config: int = 3
    """From a configuration or sync instruction leaving the queue to its completion."""

    def with_memory(self, read_latency: int, bandwidth: float) -> Timing:
        """The same constants for another memory."""
        return replace(self, read_latency=read_latency, bandwidth=bandwidth)


def split_bursts(config: Config, first: int, nbytes: int) -> list[int]:
    """Beats of the AXI bursts that transfer `nbytes` >= 1 from byte address `first`: whole beats, at most
    `max_burst`, none across a 4 KiB boundary."""
    width = config.axi_bytes
    beat = first // width
    end = (first + nbytes - 1) // width + 1
    page = 4096 // width
    bursts = []
    while beat < end:
        beats = min(config.max_burst, end - beat, page - beat % page)
        bursts.append(beats)
        beat += beats
    return bursts


@dataclass(frozen=True)
class Transfer:
    """What one DMA instruction moves. `lines` holds the burst lengths (beats) of each line; `padding` counts
    padding rows."""

    lines: tuple[tuple[int, ...], ...]
    padding: int

    @property
    def beats(self) -> int:
        """Beats on the bus."""
        return sum(map(sum, self.lines))


class DmaTimeline:
    """The load or the store engine: a request generator that runs ahead by `max_outstanding` bursts, a data
    channel of `bandwidth` beats a cycle, and one row or beat a cycle at the memory side."""

    def __init__(self, config: Config, timing: Timing, *, store: bool) -> None:
        self.timing = timing
        self.store = store
        self.ready = 0
        self.complete = 0.0
        self.channel = 0.0
        self.moved = 0
        self._writer = 0.0
        self._slots: deque[float] = deque([0.0] * config.max_outstanding)
        self._others: deque[tuple[float, float, int]] = deque()

    def begin_config(self, time: int) -> int:
        """A configuration or sync instruction: complete when everything before it is."""
        self.ready = time + self.timing.config
        self.complete = max(self.complete, time + self.timing.dma_config)
        return math.ceil(self.complete)

    def begin(self, time: int, transfer: Transfer) -> tuple[int, int]:
        """A transfer. Returns the cycle it completes in and the cycles its data channel waited."""
        timing = self.timing
        if self.store:
            setup, line_cost, burst_cost = timing.store_setup, timing.store_line, timing.store_burst
            lead, tail = timing.store_pipeline, timing.write_latency + timing.store_slot
        else:
            setup, line_cost, burst_cost = timing.load_setup, timing.load_line, timing.load_burst
            lead, tail = timing.read_latency + timing.load_command, timing.load_slot
        generator: float = time + setup
        first = generator + lead
        beats, rate, slots = 0, 1.0 / timing.bandwidth, self._slots
        end = self.channel
        done = 0
        for line in transfer.lines:
            generator += line_cost
            for burst in line:
                if done == EXACT_BURSTS:
                    break
                generator = max(generator + burst_cost, slots.popleft())
                start = max(generator + lead, end)
                end = start + burst * rate
                if self._others:
                    end += self._others_beats(start, end)
                slots.append(end + tail)
                beats += burst
                done += 1
        total = transfer.beats
        self.moved += total
        if beats < total:
            extra = (end - first) * (total - beats) / beats
            end, generator = end + extra, generator + extra
            self._slots = deque(slot + extra for slot in slots)
        self.channel = end
        if self.store:
            self.ready = math.ceil(max(generator, end - lead - line_cost) - setup) if total else time + setup
            acknowledged = end + timing.write_latency
            self.complete = max(self.complete, acknowledged + timing.store_done if total else time + setup)
        else:
            self._writer = max(max(self._writer, first if total else time + setup) + total + transfer.padding, end)
            self.channel += timing.load_gap
            self.ready = max(math.ceil(generator) - setup, time + timing.config)
            self.complete = max(self.complete, self._writer + timing.load_pipeline)
        waited = max(0, math.ceil(end - first) - total) if total else 0
        return math.ceil(self.complete), waited

    def share(self, begin: float, end: float, beats: int) -> None:
        """Another client takes `beats` of the channel between the cycles `begin` and `end`."""
        self._others.append((begin, end, beats))

    def _others_beats(self, first: float, end: float) -> float:
        """Cycles that the other clients take of a burst from `first` to `end`."""
        taken, others = 0.0, self._others
        while others and others[0][0] < end + taken:
            begin, until, beats = others.popleft()
            taken += min(beats / self.timing.bandwidth, max(0.0, until - max(first, begin)))
        return taken


class MatrixTimeline:
    """The matrix engine: weight loading runs beside the activation stream."""

    def __init__(self, config: Config, timing: Timing) -> None:
        self.timing = timing
        self.rows = config.rows
        self.fill = config.rows + config.cols + timing.run_pipeline
        self.complete = 0
        self._accept = 0
        self._stream_free = 0
        self._stream_begin = 0
        self._wload_free = 0
        self._swapped = 0
        self._weights = 0

    def ready(self, mnemonic: str) -> int:
        """First cycle in which the engine takes an instruction of this kind."""
        if mnemonic == "mx.wload":
            return max(self._accept, self._wload_free - self.timing.wload_setup)
        if mnemonic == "mx.run":
            return max(self._accept, self._stream_free - self.timing.run_setup)
        return max(self._accept, self._stream_begin - self.timing.run_setup)

    def begin_config(self, time: int) -> int:
        """A configuration or sync instruction: passes the array like a row."""
        self._accept = time + self.timing.config
        self._stream_begin = max(time + self.timing.run_setup, self._stream_free)
        self._stream_free = self._stream_begin + 1
        self.complete = max(self.complete, self._stream_free + self.fill)
        return self.complete

    def begin_wload(self, time: int) -> int:
        """A weight load: waits for the second buffer, then takes a row a cycle; rows are read ahead of the buffer."""
        self._accept = time + self.timing.config
        begin = max(time + self.timing.wload_setup, self._swapped + 1 - self.timing.wload_pipeline)
        self._wload_free = begin + self.rows
        self._weights = self._wload_free + self.timing.wload_pipeline
        return self._weights

    def begin_run(self, time: int, rows: int, swap: bool) -> int:
        """A stream of `rows` activation rows."""
        self._accept = time + self.timing.config
        begin = max(time + self.timing.run_setup, self._stream_free)
        if swap:
            begin = max(begin, self._weights)
            self._swapped = begin
        self._stream_begin = begin
        self._stream_free = begin + rows + self.timing.run_gap
        self.complete = max(self.complete, begin + rows + self.fill, self._weights)
        return self.complete


class VectorTimeline:
    """The vector engine: one instruction at a time."""

    def __init__(self, config: Config, timing: Timing) -> None:
        self.timing = timing
        self.lane_cycles = config.cols // config.requant_lanes
        self.ready = 0
        self.complete = 0

    def begin_config(self, time: int) -> int:
        """A configuration or sync instruction."""
        self.ready = time + self.timing.config
        self.complete = max(self.complete, time + self.timing.vector_config)
        return self.complete

    def begin(self, time: int, rows: int, window: int = 1, post: Post = Post.NONE) -> int:
        """An operation with `rows` results of `window` operand points each."""
        timing = self.timing
        interval = max(window, self.lane_cycles) if post else window
        tail = {
            Post.NONE: 0,
            Post.RQ: timing.vector_requant,
            Post.LUT: timing.vector_table,
            Post.LSUM: timing.vector_reduce,
            Post.LMAX: timing.vector_reduce,
        }[post]
        self.ready = time + timing.vector_setup + rows * interval + timing.vector_pipeline + tail
        self.complete = self.ready + timing.vector_done
        return self.complete

    def begin_fixed(self, time: int, cycles: int) -> int:
        """An operation that takes `cycles`, whatever the configuration."""
        self.ready = time + cycles
        self.complete = self.ready + self.timing.vector_done
        return self.complete


class FetchTimeline:
    """Instruction fetch of a program of `length` instructions: bursts in order, as far ahead as the loop buffer holds;
    an instruction can execute once its own beats are there."""

    def __init__(self, config: Config, timing: Timing, load: DmaTimeline, length: int = 0) -> None:
        self.timing = timing
        self.load = load
        self.block = max(1, config.max_burst * config.axi_bytes // INSTRUCTION_BYTES)
        self.step = INSTRUCTION_BYTES / config.axi_bytes / timing.bandwidth
        self.beats = math.ceil(self.block * INSTRUCTION_BYTES / config.axi_bytes)
        self.blocks = -(-length // self.block)
        self.ahead = max(1, config.ibuf_depth // self.block - 1)
        self._arrival: list[float] = []
        self._used: list[float] = []
        self._bound = 0.0
        self._moved = 0

    def available(self, index: int, time: int) -> int:
        """First cycle from `time` on in which instruction `index` can execute."""
        block, offset = divmod(index, self.block)
        while len(self._used) <= block:
            number = len(self._used)
            while len(self._arrival) <= number + self.ahead:
                self._request()
            # What the load engine moved meanwhile went over the same channel.
            moved, self._moved = self.load.moved - self._moved, self.load.moved
            self._bound = max(
                self._arrival[number], self._bound + self.block * self.step + moved / self.timing.bandwidth
            )
            self._used.append(max(time, self._bound))
        arrival = self._bound if block == len(self._used) - 1 else self._arrival[block]
        return max(time, math.ceil(arrival + (offset + 1 - self.block) * self.step))

    def _request(self) -> None:
        number, timing = len(self._arrival), self.timing
        room = self._used[number - self.ahead - 1] if number > self.ahead else timing.start
        previous = self._arrival[-1] - timing.fetch_pipeline if self._arrival else 0.0
        begin = max(room + timing.read_latency, previous)
        end = begin + self.block * self.step
        if number < self.blocks:
            self.load.share(begin, end, self.beats)
        self._arrival.append(end + timing.fetch_pipeline)


def line_bursts(config: Config, addresses: Sequence[int], nbytes: int) -> tuple[tuple[int, ...], ...]:
    """`split_bursts` of every line; empty where a line moves nothing."""
    if nbytes == 0:
        return ()
    return tuple(tuple(split_bursts(config, address, nbytes)) for address in addresses)
