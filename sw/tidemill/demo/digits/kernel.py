"""The digits network as one Tidemill program: weights stay in the scratchpad, images stream through.

Two loops in hardware: groups of `GROUP` images, and in each group pairs of images (one per buffer parity). The matrix
engine runs one image ahead: while it does the second convolution of image i, the vector engine requantizes the first
convolution of image i + 1, and the load engine fetches image i + 2. The dense layer runs once a group, with the
group's images as rows.

- First convolution: the load DMA gathers, for every pixel, the `rows` bytes that follow it, so one scratchpad row holds
  several taps of the kernel and one weight tile covers them all; no im2col on the host.
- Second convolution: a sum over its nine taps; tap (y, x) reads the same rows from an address 8 * y + x further.
  Padding is a border that is filled once.
- Max pooling folds four accumulator rows before they are requantized: requantization is monotonic, so the bytes are
  the same and there is a quarter of the work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.builder import LocalAddress, ProgramBuilder, Register, Semaphore, acc, spad
from tidemill.config import Config, ConfigError
from tidemill.demo.digits.network import Layer, Network
from tidemill.isa import Post
from tidemill.program import Program

GROUP = 8
"""Images whose dense layer runs as one matrix product; even."""
SMALLEST_ARRAY = 16
"""Rows and columns that the array needs at least: all weights stay on chip."""
SIDE = 8
"""Pixels of an image's side, and of the padded first activation's."""
IMAGE_BYTES = SIDE * SIDE
AHEAD = 2
"""Images loaded ahead; the program reads this many past the last one."""
CONV_ROWS = 36
POOLED_ROWS = 9


@dataclass(frozen=True)
class Tile:
    """One weight tile and where its activations start, in rows from the layer's input."""

    weights: NDArray[np.int8]
    act_offset: int


def _tile(config: Config, part: NDArray[np.int8]) -> NDArray[np.int8]:
    tile = np.zeros((config.rows, config.cols), np.int8)
    tile[: part.shape[0], : part.shape[1]] = part
    return tile


def _blocks(size: int, dim: int) -> list[slice]:
    return [slice(start, min(start + dim, size)) for start in range(0, size, dim)]


def conv1_tiles(config: Config, layer: Layer, columns: slice) -> list[Tile]:
    """Tiles of the first convolution: taps whose pixels lie within `rows` bytes of each other share one."""
    taps = [(y * SIDE + x, layer.weights[y, x, 0, columns]) for y in range(3) for x in range(3)]
    tiles = []
    while taps:
        base = taps[0][0]
        part = np.zeros((config.rows, columns.stop - columns.start), np.int8)
        for offset, weights in taps:
            if offset - base < config.rows:
                part[offset - base] = weights
        taps = [tap for tap in taps if tap[0] - base >= config.rows]
        tiles.append(Tile(_tile(config, part), base))
    return tiles


def conv2_tiles(config: Config, layer: Layer, columns: slice) -> list[Tile]:
    """Tiles of the second convolution: one per tap and block of input channels."""
    return [
        Tile(_tile(config, layer.weights[y, x, channels, columns]), block * IMAGE_BYTES + y * SIDE + x)
        for y in range(3)
        for x in range(3)
        for block, channels in enumerate(_blocks(layer.weights.shape[2], config.rows))
    ]


def dense_tiles(config: Config, layer: Layer, columns: slice) -> list[Tile]:
    """Tiles of the dense layer: one per pooled pixel and block of channels."""
    return [
        Tile(_tile(config, layer.weights[y, x, channels, columns]), block * POOLED_ROWS + y * 3 + x)
        for block, channels in enumerate(_blocks(layer.weights.shape[2], config.rows))
        for y in range(3)
        for x in range(3)
    ]


@dataclass(frozen=True)
class Block:
    """One block of output columns of a layer: its tiles, the row of its first tile, its parameters' row."""

    tiles: list[Tile]
    weight_row: int
    param_row: int


class DigitsKernel:
    """Emits the program; `build` is the entry."""

    def __init__(self, config: Config, network: Network, images: int) -> None:
        if config.dim < SMALLEST_ARRAY:
            raise ConfigError(f"the digits program keeps all weights on chip; it needs an array of 16 x 16 or more, "
                              f"not {config.rows} x {config.cols} ({config.name})")  # fmt: skip
        if images < 1:
            raise ValueError(f"images must be at least 1, not {images}")
        self.config = config
        self.groups = -(-images // GROUP)
        self.network = network
        self.bank = config.spad_rows // config.spad_banks
        self.acc_bank = config.acc_rows // config.acc_banks
        self.weight_tiles: list[NDArray[np.int8]] = []
        self.param_sets: list[NDArray[np.int32]] = []
        makers = ((network.conv1, conv1_tiles), (network.conv2, conv2_tiles), (network.fc, dense_tiles))
        total = sum(len(_blocks(layer.weights.shape[-1], config.cols)) for layer, _ in makers)
        self.param_base = self.acc_bank - 3 * total
        self.conv1, self.conv2, self.fc = ([*self._layer(layer, make)] for layer, make in makers)

        self.input_rows = CONV_ROWS + 10 + max(tile.act_offset for tile in self.conv1[0].tiles)
        self.act1_rows = len(self.conv1) * IMAGE_BYTES
        self.image_rows = len(self.conv2) * POOLED_ROWS
        self.act1, self.weights, self.act2 = self.bank, 2 * self.bank, 3 * self.bank
        self.logits = self.act2 + 2 * GROUP * self.image_rows
        self.acc2 = len(self.conv1) * CONV_ROWS
        self.acc_fc = self.acc2 + len(self.conv2) * CONV_ROWS

        b = self.b = ProgramBuilder(config)
        names = "w_ready p_ready in_ready in_free c1_ready c1_free a1_ready a1_free c2_ready c2_free"
        self.sem: dict[str, Semaphore] = {
            name: b.semaphore(name) for name in f"{names} a2_ready a2_free f_ready f_free o_ready o_free".split()
        }
        padded_images = self.groups * GROUP + AHEAD + 2
        self.images = b.buffer("images", "int8", (padded_images, SIDE, SIDE))
        tiles = np.stack(self.weight_tiles)
        params = np.stack(self.param_sets)
        self.weight_data = b.buffer("weights", "int8", tiles.shape, tiles)
        self.param_data = b.buffer("params", "int32", params.shape, params)
        self.out = b.buffer("logits", "int8", (self.groups * GROUP, config.cols))

    def _layer(self, layer: Layer, make: Callable[[Config, Layer, slice], list[Tile]]) -> list[Block]:
        blocks = []
        for columns in _blocks(layer.weights.shape[-1], self.config.cols):
            tiles = make(self.config, layer, columns)
            params = np.zeros((3, self.config.cols), np.int32)
            params[:, : columns.stop - columns.start] = layer.params[:, columns]
            row = len(self.weight_tiles) * self.config.rows
            blocks.append(Block(tiles, row, self.param_base + 3 * len(self.param_sets)))
            self.weight_tiles += [tile.weights for tile in tiles]
            self.param_sets.append(params)
        return blocks

    def build(self) -> Program:
        """The whole program."""
        b, sem = self.b, self.sem
        image = b.register("image")
        pooled = b.register("pooled")
        group = b.register("group")
        result = b.register("result")
        span = b.register("span")
        self._prologue()
        b.li(image, 0)
        self._load_image(0, image)
        self._load_image(1, image)
        self._conv1(0)
        b.li(group, 0)
        b.li(result, 0)
        b.li(span, GROUP * self.image_rows)
        with b.loop(self.groups):
            b.addi(pooled, group, 0)
            b.vx_sync(wait=[sem["a2_free"]])
            with b.loop(GROUP // 2):
                for parity in (0, 1):
                    self._load_image(parity, image)
                    self._conv1(1 - parity)
                    self._conv2(parity, pooled)
            b.vx_sync(signal=[sem["a2_ready"]])
            self._dense(group, result)
            b.addi(result, result, GROUP * self.config.spad_row_bytes)
            b.sub(group, span, group)
        b.halt()
        return b.build()

    def _prologue(self) -> None:
        """Weights, parameters (in both accumulator banks, so that they are read beside any matrix work), border."""
        b, sem = self.b, self.sem
        b.ld_run(
            dst=spad(self.weights), dram=self.weight_data, n0=len(self.weight_tiles) * self.config.rows,
            signal=[sem["w_ready"]],
        )  # fmt: skip
        b.ld_dst(d1=IMAGE_BYTES, pad_lo=IMAGE_BYTES, value=self.network.conv2.zero_point_in)
        b.ld_run(dst=spad(self.act1), dram=self.weight_data, n0=0, n1=2 * len(self.conv1))
        b.ld_dst()
        for bank in (0, 1):
            b.ld_run(
                dst=acc(bank * self.acc_bank + self.param_base), dram=self.param_data, n0=3 * len(self.param_sets),
                signal=[sem["p_ready"]] if bank else [],
            )  # fmt: skip
        b.ld_dst(d1=1)
        b.ld_stride(s1=1)
        for _ in range(2):
            b.mx_sync(signal=[sem["in_free"], sem["a1_free"], sem["a2_free"]])
            b.vx_sync(signal=[sem["c1_free"], sem["c2_free"]])
        b.st_sync(signal=[sem["o_free"]])
        b.vx_sync(signal=[sem["f_free"]], wait=[sem["p_ready"]])
        b.mx_sync(wait=[sem["w_ready"]])
        b.mx_act(n0=6, n1=6, s0=1, s1=SIDE)
        b.mx_acc(t0=1, t1=6)
        b.vx_quant(zero_point=self.network.conv1.zero_point_out)

    def _load_image(self, parity: int, image: Register) -> None:
        """Gather the next image: row (y, x) holds the bytes from pixel (y, x) on."""
        sem = self.sem
        self.b.ld_run(
            dst=spad(parity * self.input_rows), dram=self.images + image, n0=1, n1=self.input_rows,
            wait=[sem["in_free"]], signal=[sem["in_ready"]],
        )  # fmt: skip
        self.b.addi(image, image, IMAGE_BYTES)

    def _product(
        self, blocks: list[Block], act: LocalAddress, acc_row: int, rows: int, wait: list[str], signal: list[str]
    ) -> None:
        """All tiles of a layer, block by block of output columns."""
        last = (len(blocks) - 1, len(blocks[-1].tiles) - 1)
        for index, block in enumerate(blocks):
            for number, tile in enumerate(block.tiles):
                self.b.mx_wload(src=spad(self.weights + block.weight_row + number * self.config.rows))
                self.b.mx_run(
                    act=act + tile.act_offset,
                    acc=acc(acc_row + index * rows),
                    accumulate=int(number > 0),
                    wait=[self.sem[name] for name in wait] if (index, number) == (0, 0) else [],
                    signal=[self.sem[name] for name in signal] if (index, number) == last else [],
                )

    def _conv1(self, parity: int) -> None:
        """First convolution of the image with this parity, requantized into the padded activation."""
        b, sem = self.b, self.sem
        row = parity * self.acc_bank
        act = spad(parity * self.input_rows)
        self._product(self.conv1, act, row, CONV_ROWS, ["in_ready", "c1_free"], ["in_free", "c1_ready"])
        b.vx_dims(n0=6, n1=6, d0=1, d1=SIDE, wait=[sem["c1_ready"], sem["a1_free"]])
        b.vx_astride(n0=1, n1=6)
        for index, block in enumerate(self.conv1):
            final = index == len(self.conv1) - 1
            b.vx_param(src=acc(row + block.param_row))
            b.vx_add(
                dst=spad(self.act1 + parity * self.act1_rows + index * IMAGE_BYTES + SIDE + 1),
                a=acc(row + index * CONV_ROWS), b=0, post=Post.RQ,
                signal=[sem["c1_free"], sem["a1_ready"]] if final else [],
            )  # fmt: skip

    def _conv2(self, parity: int, pooled: Register) -> None:
        """Second convolution, pooled and requantized into the group's activations at register `pooled`."""
        b, sem = self.b, self.sem
        row = parity * self.acc_bank
        act = spad(self.act1 + parity * self.act1_rows)
        self._product(self.conv2, act, row + self.acc2, CONV_ROWS, ["a1_ready", "c2_free"], ["a1_free", "c2_ready"])
        b.vx_dims(n0=3, n1=3, k0=2, k1=2, d0=1, d1=3, wait=[sem["c2_ready"]])
        b.vx_astride(n0=2, n1=12, k0=1, k1=6)
        for index, block in enumerate(self.conv2):
            final = index == len(self.conv2) - 1
            b.vx_param(src=acc(row + block.param_row))
            b.vx_maxpool(
                dst=spad(self.act2 + index * POOLED_ROWS) + pooled,
                a=acc(row + self.acc2 + index * CONV_ROWS), b=0, post=Post.RQ,
                signal=[sem["c2_free"]] if final else [],
            )  # fmt: skip
        b.addi(pooled, pooled, self.image_rows)

    def _dense(self, group: Register, result: Register) -> None:
        """Dense layer of a group, and its logits to DRAM."""
        b, sem = self.b, self.sem
        b.mx_act(n0=GROUP, s0=self.image_rows)
        b.mx_acc(t0=1)
        act = spad(self.act2) + group
        self._product(self.fc, act, self.acc_fc, GROUP, ["a2_ready", "f_free"], ["a2_free", "f_ready"])
        b.mx_act(n0=6, n1=6, s0=1, s1=SIDE)
        b.mx_acc(t0=1, t1=6)
        b.vx_quant(zero_point=self.network.fc.zero_point_out, wait=[sem["f_ready"], sem["o_free"]])
        b.vx_dims(n0=GROUP, d0=1)
        b.vx_astride(n0=1)
        b.vx_param(src=acc(self.fc[0].param_row))
        b.vx_add(dst=spad(self.logits), a=acc(self.acc_fc), b=0, post=Post.RQ, signal=[sem["f_free"], sem["o_ready"]])
        b.vx_quant(zero_point=self.network.conv1.zero_point_out)
        b.st_run(src=spad(self.logits), dram=self.out + result, n0=GROUP, wait=[sem["o_ready"]], signal=[sem["o_free"]])


def build_digits(config: Config, network: Network, images: int) -> Program:
    """The program for `images` images (rounded up to groups); buffers `images` and `logits`."""
    return DigitsKernel(config, network, images).build()


def pack_images(program: Program, images: NDArray[np.int8]) -> NDArray[np.int8]:
    """int8 [N, 8, 8] padded with zeros to the program's input buffer."""
    packed = np.zeros(program.buffers["images"].shape, np.int8)
    packed[: len(images)] = images
    return packed
