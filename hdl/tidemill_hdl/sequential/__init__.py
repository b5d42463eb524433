"""The sequential NPU: the whole machine as one microcoded sequencer, for the smallest devices."""
