"""One kernel for each class of `ir`: a function `emit(context, op)` that appends the operation to the stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tidemill.compiler.context import Context
from tidemill.compiler.ir import Add, Conv2D, MatMul, MaxPool2D, MinMax, Move, Mul, Op, Softmax, SumPool2D, Table
from tidemill.compiler.kernels.conv import emit_conv
from tidemill.compiler.kernels.elementwise import emit_add, emit_min_max, emit_mul, emit_table
from tidemill.compiler.kernels.matmul import emit_matmul
from tidemill.compiler.kernels.move import emit_move
from tidemill.compiler.kernels.pooling import emit_max_pool, emit_sum_pool
from tidemill.compiler.kernels.softmax import emit_softmax

KERNELS: dict[type[Op], Callable[[Context, Any], None]] = {
    Add: emit_add,
    Conv2D: emit_conv,
    MatMul: emit_matmul,
    MaxPool2D: emit_max_pool,
    MinMax: emit_min_max,
    Move: emit_move,
    Mul: emit_mul,
    Softmax: emit_softmax,
    SumPool2D: emit_sum_pool,
    Table: emit_table,
}
