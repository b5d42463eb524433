"""What is proved, a file per block: each has a tuple `PROOFS` of `tidemill_verif.formal.proof.Proof`."""
