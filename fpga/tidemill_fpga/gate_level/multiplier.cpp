// A mapped multiplier as a function on arrays: a pair of factors a cycle in, a product a cycle out.

#include <cstdint>

#include "Vnetlist.h"
#include "verilated.h"

// `products[i]` is what the netlist shows `latency` clock edges after it has got `a[i]` and `b[i]`.
extern "C" void multiply(int64_t count, int latency, const int64_t* a, const int64_t* b, int64_t* products) {
    VerilatedContext context;
    Vnetlist netlist{&context, "netlist"};
    netlist.clk = 0;
    netlist.eval();
    for (int64_t cycle = 0; cycle < count + latency - 1; ++cycle) {
        const int64_t index = cycle < count ? cycle : count - 1;
        netlist.a = a[index] & A_MASK;
        netlist.b = b[index] & B_MASK;
        netlist.eval();
        netlist.clk = 1;
        netlist.eval();
        if (cycle >= latency - 1) products[cycle - latency + 1] = static_cast<int64_t>(netlist.p);
        netlist.clk = 0;
        netlist.eval();
    }
    netlist.final();
}
