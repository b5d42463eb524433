"""Golden models: the exact meaning of every operation of the machine, in numpy.

`matrix`, `vector`, `dma` and `requant` say what single instructions compute and which rows they touch; the simulator
and the benches of the hardware are built on them. `operators` composes them into whole layers in the way the
machine does; the tests hold those against outside runtimes.
"""
