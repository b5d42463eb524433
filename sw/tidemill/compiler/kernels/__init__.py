"""One kernel for each class of `ir`: a function `emit(context, op)` that appends the operation to the stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tidemill.compiler.context import Context
from tidemill.compiler.ir import Conv2D, Op
from tidemill.compiler.kernels.conv import emit_conv

KERNELS: dict[type[Op], Callable[[Context, Any], None]] = {
    Conv2D: emit_conv,
}
