; C = clamp(requantize(A @ B + bias)): one 16 x 16 tile, int8 in and out.
; P holds the parameters of each column: biases, multipliers, shifts (`golden.requant`).
.preset base
.const N = 16
.sem operands, parameters, product, result
.buffer A, int8, [N, N]
.buffer B, int8, [N, N]
.buffer P, int32, [3, N]
.buffer C, int8, [N, N]

.const weights = 0                  ; scratchpad rows
.const inputs = N
.const results = 2*N
.const sums = 0                     ; accumulator rows
.const scales = N

    ld.run   spad[weights], B, N
    ld.run   spad[inputs], A, N, signal=operands
    ld.run   acc[scales], P, 3, signal=parameters

    mx.wload spad[weights], wait=operands
    mx.act   n0=N, s0=1             ; N rows of A, one after another
    mx.acc   t0=1                   ; to N accumulator rows, one after another
    mx.run   spad[inputs], acc[sums], signal=product

    vx.dims  n0=N, d0=1
    vx.astride n0=1
    vx.quant zero_point=3, qmin=-100, qmax=100
    vx.param acc[scales], wait=parameters
    vx.add   spad[results], acc[sums], 0, post=rq, wait=product, signal=result

    st.run   spad[results], C, N, wait=result
    halt
