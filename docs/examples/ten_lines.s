.buffer A, int8, [16, 16]
.buffer B, int8, [16, 16]
.buffer C, int32, [16, 16]
.sem loaded, done
    ld.run   spad[0], B, 16
    ld.run   spad[16], A, 16, signal=loaded
    mx.wload spad[0], wait=loaded
    mx.act   n0=16, s0=1
    mx.acc   t0=1
    mx.run   spad[16], acc[0], signal=done
    st.run   acc[0], C, 16, wait=done
    halt
