"""What a front end says about each node of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NodeReport:
    """Where node number `index` of the model runs: `where` is npu, host, border (conversion of the model's inputs or
    outputs on the host), constant (nothing to run) or unsupported; `why` says what it becomes, or what is wrong."""

    index: int
    name: str
    op: str
    where: str
    why: str
