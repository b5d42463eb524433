"""Formal proofs of the hardware's blocks; `python -m tidemill_verif.formal` runs them.

`blocks/` holds one file per block with its harnesses and `PROOFS`; `docs/verification/proofs.md` explains the method.
"""
