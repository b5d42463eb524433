"""The microcode of the sequential NPU: what `docs/architecture.md` asks of frontend and engines, step by step."""

from tidemill_hdl.sequential.microcode.program import TRAP, Microcode, assemble

__all__ = ["TRAP", "Microcode", "assemble"]
