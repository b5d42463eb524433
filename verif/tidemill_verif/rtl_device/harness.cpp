// The Verilated NPU with its DRAM: a C interface that Python loads with ctypes.
//
// One clock cycle: the inputs of the coming edge are set from the slave model's state, handshakes are sampled, the clock
// rises and falls. The DUT's outputs are registered, so what is sampled before the edge is what it shows in that cycle.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "Vtop.h"
#include "verilated.h"
#ifdef TIDEMILL_TRACE_FST
#include "verilated_fst_c.h"
using Trace = VerilatedFstC;
#endif
#ifdef TIDEMILL_TRACE_VCD
#include "verilated_vcd_c.h"
using Trace = VerilatedVcdC;
#endif

namespace {

// Verilator writes "__" of a Verilog name as "___05F".
#define S_AXIL(name) top.s_axil___05F##name
#define M_AXI(name) top.m_axi___05F##name

constexpr int OKAY = 0, SLVERR = 2, DECERR = 3;
constexpr size_t MAX_BURSTS = 16;

struct Port {
    const char* name;
    void* data;
    int bytes;
    int bits;
    bool input;
};

struct Fault {
    uint64_t first, last;
    int response;
    bool write;
};

struct ReadBurst {
    uint64_t addr;
    int beats;
    int id;
    uint64_t due;  // first cycle in which its first beat may be taken
};

struct WriteBurst {
    uint64_t addr;
    int beats;
    int id;
    int response;
};

struct Response {
    int id;
    int response;
    uint64_t due;
};

// What a master may not change while its valid waits for ready.
struct Held {
    bool waiting = false;
    std::string payload;
};

struct Model {
    VerilatedContext context;
    Vtop top{&context, "top"};
    std::vector<Port> ports;
    std::unique_ptr<uint8_t[], decltype(&std::free)> memory{nullptr, &std::free};
    uint64_t size;
    uint64_t read_latency, write_latency;
    double bandwidth, stall;
    std::mt19937_64 random;
    std::vector<Fault> faults;
    std::deque<ReadBurst> reads;
    std::deque<WriteBurst> writes;
    std::deque<Response> responses;
    double read_credit = 1, write_credit = 1;
    bool read_shown = false, response_shown = false;
    uint64_t cycle = 0;
    std::string violation;
    Held held_ar, held_aw, held_w;
#ifdef TIDEMILL_TRACE
    std::unique_ptr<Trace> trace;
#endif

    Model(uint64_t bytes, uint64_t read_latency, uint64_t write_latency, double bandwidth, double stall, uint64_t seed)
        : size(bytes), read_latency(read_latency), write_latency(write_latency), bandwidth(bandwidth), stall(stall),
          random(seed) {
        memory.reset(static_cast<uint8_t*>(std::calloc(bytes, 1)));
#include "ports.inc"
    }

    bool chance() { return stall > 0 && std::uniform_real_distribution<double>(0, 1)(random) < stall; }

    int response_at(uint64_t first, uint64_t last, bool write) const {
        for (const Fault& fault : faults)
            if (fault.write == write && first <= fault.last && last >= fault.first) return fault.response;
        return last < size ? OKAY : DECERR;
    }

    void complain(const std::string& text) {
        if (violation.empty()) violation = "cycle " + std::to_string(cycle) + ": " + text;
    }

    void check_held(Held& held, bool valid, bool ready, std::string payload, const char* channel) {
        if (held.waiting && !valid) complain(std::string(channel) + "VALID fell before READY");
        if (held.waiting && valid && payload != held.payload) complain(std::string(channel) + " payload changed");
        held.waiting = valid && !ready;
        if (held.waiting) held.payload = std::move(payload);
    }

    template <typename T> static std::string bytes_of(const T& value) {
        return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
    }

    void check_burst(uint64_t addr, int len, int size_code, int burst, const char* channel) {
        const uint64_t bytes = uint64_t(len + 1) << size_code;
        if (addr % BUS_BYTES) complain(std::string(channel) + "ADDR is not a multiple of the bus width");
        if ((1u << size_code) != BUS_BYTES || burst != 1) complain(std::string(channel) + " is no full-width INCR burst");
        if (addr / 4096 != (addr + bytes - 1) / 4096) complain(std::string(channel) + " burst crosses 4 KiB");
    }

    // Inputs of the coming edge.
    void drive() {
        M_AXI(arready) = reads.size() < MAX_BURSTS && !chance();
        M_AXI(awready) = writes.size() < MAX_BURSTS && !chance();
        M_AXI(wready) = !writes.empty() && write_credit >= 1 && !chance();
        if (!read_shown && !reads.empty() && reads.front().due <= cycle && read_credit >= 1 && !chance()) {
            const ReadBurst& burst = reads.front();
            const int response = response_at(burst.addr, burst.addr + BUS_BYTES - 1, false);
            uint8_t data[BUS_BYTES] = {};
            if (response == OKAY) std::memcpy(data, &memory[burst.addr], BUS_BYTES);
            std::memcpy(&M_AXI(rdata), data, BUS_BYTES);
            M_AXI(rid) = burst.id;
            M_AXI(rresp) = response;
            M_AXI(rlast) = burst.beats == 1;
            read_shown = true;
        }
        M_AXI(rvalid) = read_shown;
        if (!response_shown && !responses.empty() && responses.front().due <= cycle && !chance()) {
            M_AXI(bid) = responses.front().id;
            M_AXI(bresp) = responses.front().response;
            response_shown = true;
        }
        M_AXI(bvalid) = response_shown;
    }

    // Handshakes of the coming edge.
    void sample() {
        const bool ar = M_AXI(arvalid), aw = M_AXI(awvalid), w = M_AXI(wvalid);
        check_held(held_ar, ar, M_AXI(arready), bytes_of(M_AXI(araddr)) + bytes_of(M_AXI(arlen)) + bytes_of(M_AXI(arid)),
                   "AR");
        check_held(held_aw, aw, M_AXI(awready), bytes_of(M_AXI(awaddr)) + bytes_of(M_AXI(awlen)), "AW");
        check_held(held_w, w, M_AXI(wready), bytes_of(M_AXI(wdata)) + bytes_of(M_AXI(wstrb)) + bytes_of(M_AXI(wlast)), "W");
        if (M_AXI(rvalid) && M_AXI(rready)) {
            ReadBurst& burst = reads.front();
            burst.addr += BUS_BYTES;
            if (--burst.beats == 0) reads.pop_front();
            read_shown = false;
            read_credit -= 1;
        }
        if (M_AXI(bvalid) && M_AXI(bready)) {
            responses.pop_front();
            response_shown = false;
        }
        if (w && M_AXI(wready)) {
            WriteBurst& burst = writes.front();
            const int response = response_at(burst.addr, burst.addr + BUS_BYTES - 1, true);
            burst.response = std::max(burst.response, response);
            if (response == OKAY) {
                uint8_t data[BUS_BYTES];
                std::memcpy(data, &M_AXI(wdata), BUS_BYTES);
                for (int lane = 0; lane < BUS_BYTES; ++lane)
                    if (M_AXI(wstrb) >> lane & 1) memory[burst.addr + lane] = data[lane];
            }
            burst.addr += BUS_BYTES;
            const bool last = --burst.beats == 0;
            if (bool(M_AXI(wlast)) != last) complain("WLAST is not on the last beat");
            if (last) {
                responses.push_back({burst.id, burst.response, cycle + write_latency});
                writes.pop_front();
            }
            write_credit -= 1;
        }
        if (ar && M_AXI(arready)) {
            check_burst(M_AXI(araddr), M_AXI(arlen), M_AXI(arsize), M_AXI(arburst), "AR");
            reads.push_back({M_AXI(araddr), M_AXI(arlen) + 1, M_AXI(arid), cycle + read_latency});
        }
        if (aw && M_AXI(awready)) {
            check_burst(M_AXI(awaddr), M_AXI(awlen), M_AXI(awsize), M_AXI(awburst), "AW");
            writes.push_back({M_AXI(awaddr), M_AXI(awlen) + 1, M_AXI(awid), OKAY});
        }
        read_credit = std::min(1.0, read_credit + bandwidth);
        write_credit = std::min(1.0, write_credit + bandwidth);
    }

    void edge(bool level) {
        top.clk = level;
        top.eval();
#ifdef TIDEMILL_TRACE
        if (trace) trace->dump(10 * cycle + (level ? 0 : 5));
#endif
    }

    void step() {
        drive();
        sample();
        edge(true);
        edge(false);
        ++cycle;
    }

    void reset(int cycles) {
        top.rst = 1;
        for (int i = 0; i < cycles; ++i) {
            drive();
            edge(true);
            edge(false);
            ++cycle;
        }
        top.rst = 0;
        reads.clear();
        writes.clear();
        responses.clear();
        read_shown = response_shown = false;
        held_ar = held_aw = held_w = Held{};
    }
};

}  // namespace

extern "C" {

Model* tm_open(uint64_t bytes, uint64_t read_latency, uint64_t write_latency, double bandwidth, double stall,
               uint64_t seed) {
    auto* model = new Model(bytes, read_latency, write_latency, bandwidth, stall, seed);
    if (!model->memory) {
        delete model;
        return nullptr;
    }
    model->top.clk = 0;
    model->top.eval();
    return model;
}

void tm_close(Model* model) {
#ifdef TIDEMILL_TRACE
    if (model->trace) model->trace->close();
#endif
    model->top.final();
    delete model;
}

void tm_fault(Model* model, uint64_t first, uint64_t last, int response, int write) {
    model->faults.push_back({first, last, response, write != 0});
}

void tm_reset(Model* model, int cycles) { model->reset(cycles); }

uint8_t* tm_memory(Model* model) { return model->memory.get(); }

uint64_t tm_cycle(const Model* model) { return model->cycle; }

const char* tm_violation(const Model* model) { return model->violation.c_str(); }

void tm_step(Model* model, uint64_t cycles) {
    while (cycles--) model->step();
}

// Cycles taken until the interrupt line is high, at most `limit`.
uint64_t tm_run(Model* model, uint64_t limit) {
    uint64_t taken = 0;
    while (taken < limit && !model->top.irq) {
        model->step();
        ++taken;
    }
    return taken;
}

// AXI4-Lite accesses; -1 where the machine does not answer within `limit` cycles.
int64_t tm_csr_write(Model* model, uint32_t offset, uint32_t value, uint64_t limit) {
    Vtop& top = model->top;
    S_AXIL(awaddr) = offset;
    S_AXIL(wdata) = value;
    S_AXIL(wstrb) = 0xF;
    S_AXIL(awvalid) = S_AXIL(wvalid) = S_AXIL(bready) = 1;
    for (; limit; --limit) {
        const bool aw = S_AXIL(awvalid) && S_AXIL(awready), w = S_AXIL(wvalid) && S_AXIL(wready);
        const bool b = S_AXIL(bvalid);
        const int response = S_AXIL(bresp);
        model->step();
        if (aw) S_AXIL(awvalid) = 0;
        if (w) S_AXIL(wvalid) = 0;
        if (b) {
            S_AXIL(bready) = 0;
            return response;
        }
    }
    S_AXIL(awvalid) = S_AXIL(wvalid) = S_AXIL(bready) = 0;
    return -1;
}

int64_t tm_csr_read(Model* model, uint32_t offset, uint64_t limit) {
    Vtop& top = model->top;
    S_AXIL(araddr) = offset;
    S_AXIL(arvalid) = S_AXIL(rready) = 1;
    for (; limit; --limit) {
        const bool ar = S_AXIL(arvalid) && S_AXIL(arready);
        const bool r = S_AXIL(rvalid);
        const uint32_t data = S_AXIL(rdata);
        model->step();
        if (ar) S_AXIL(arvalid) = 0;
        if (r) {
            S_AXIL(rready) = 0;
            return data;
        }
    }
    S_AXIL(arvalid) = S_AXIL(rready) = 0;
    return -1;
}

int tm_port_count(const Model* model) { return static_cast<int>(model->ports.size()); }

const char* tm_port_name(const Model* model, int index) { return model->ports[index].name; }

int tm_port_bits(const Model* model, int index) { return model->ports[index].bits; }

int tm_port_is_input(const Model* model, int index) { return model->ports[index].input; }

void tm_port_get(const Model* model, int index, uint8_t* value) {
    std::memcpy(value, model->ports[index].data, model->ports[index].bytes);
}

void tm_port_set(Model* model, int index, const uint8_t* value) {
    std::memcpy(model->ports[index].data, value, model->ports[index].bytes);
    model->top.eval();
}

// Waveforms; 0 where this library was built without them.
int tm_trace_open(Model* model, const char* path) {
#ifdef TIDEMILL_TRACE
    model->context.traceEverOn(true);
    model->trace = std::make_unique<Trace>();
    model->top.trace(model->trace.get(), 99);
    model->trace->open(path);
    return model->trace->isOpen();
#else
    return 0;
#endif
}

void tm_trace_close(Model* model) {
#ifdef TIDEMILL_TRACE
    if (model->trace) model->trace->close();
    model->trace.reset();
#endif
}
}
