; C = A @ B for 256 rows of A, 16 at a time, in two halves of each memory: while the array works on one half, the next
; tile is loaded into the other and the previous one is stored.
.preset base
.const N = 16
.const TILES = 16
.sem weights, in_ready, in_free, out_ready, out_free
.buffer A, int8, [N*TILES, N]
.buffer B, int8, [N, N]
.buffer C, int32, [N*TILES, N]

    ld.run  spad[0], B, N, signal=weights
    mx.sync wait=weights, signal=in_free    ; two credits: both input halves are free for the loader
    mx.sync signal=in_free
    st.sync signal=out_free                 ; both output halves are free for the array
    st.sync signal=out_free
    mx.act  n0=N, s0=1
    mx.acc  t0=1
    li      r1, 0                           ; row of the half: 0 or N
    li      r2, 0                           ; offset in A
    li      r3, 0                           ; offset in C
    li      r4, N
    loop    TILES
        ld.run   spad[N + r1], A + r2, N, wait=in_free, signal=in_ready
        mx.wload spad[0]                    ; runs ahead of the runs: the same weights again cost hardly a cycle
        mx.run   spad[N + r1], acc[r1], wait=in_ready|out_free, signal=in_free|out_ready
        st.run   acc[r1], C + r3, N, wait=out_ready, signal=out_free
        sub      r1, r4, r1
        addi     r2, r2, N*N
        addi     r3, r3, 4*N*N
    endloop
    halt
