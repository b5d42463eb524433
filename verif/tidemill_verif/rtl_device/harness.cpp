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
#include "Vtop___024root.h"
#include "axi_rules.h"
#include "verilated.h"
#ifdef TIDEMILL_PROBE
#include "probe.h"
#endif
#ifdef TIDEMILL_COVERAGE
#include "verilated_cov.h"
#endif
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

// A memory inside the NPU, rows without gaps.
struct Local {
    const char* name;
    void* data;
    uint64_t bytes;
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

// A burst is here from the first cycle of its AWVALID on.
struct WriteBurst {
    uint64_t number;
    uint64_t addr;
    int beats;
    int id;
    int response;
};

struct Response {
    uint64_t number;  // of its burst
    int id;
    int response;
    uint64_t due;
};

enum ChannelNumber { AR, R, AW, W, B, CHANNELS };

struct Model {
    VerilatedContext context;
    Vtop top{&context, "top"};
    std::vector<Port> ports;
    std::vector<Local> locals;
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
    size_t read_chosen = 0;  // of `reads`, whose beat is shown
    uint64_t writes_shown = 0, writes_taken = 0;
    bool interleave = false, early_data = false;
    uint64_t held_until[CHANNELS] = {};  // cycle from which a channel of the memory moves again
    uint64_t cycle = 0;
    std::string violation;
    axi::Rules rules;
    axi::Axi4 axi4{};
    axi::Lite lite{};
#ifdef TIDEMILL_TRACE
    std::unique_ptr<Trace> trace;
#endif
#ifdef TIDEMILL_PROBE
    Probe probe;
#endif

    Model(uint64_t bytes, uint64_t read_latency, uint64_t write_latency, double bandwidth, double stall, uint64_t seed,
          const axi::Limits& limits)
        : size(bytes), read_latency(read_latency), write_latency(write_latency), bandwidth(bandwidth), stall(stall),
          random(seed), rules(limits) {
        memory.reset(static_cast<uint8_t*>(std::calloc(bytes, 1)));
#include "ports.inc"
#include "locals.inc"
    }

    bool chance() { return stall > 0 && std::uniform_real_distribution<double>(0, 1)(random) < stall; }

    int response_at(uint64_t first, uint64_t last, bool write) const {
        for (const Fault& fault : faults)
            if (fault.write == write && first <= fault.last && last >= fault.first) return fault.response;
        return last < size ? OKAY : DECERR;
    }

    bool moves(ChannelNumber channel) const { return cycle >= held_until[channel]; }

    // Both ports, as they stand at the coming edge, are held against the rules.
    void observe(bool reset) {
        const auto address = [](auto& channel, bool valid, bool ready, auto... fields) {
            channel.valid = valid;
            channel.ready = ready;
            channel.payload = {static_cast<uint32_t>(fields)...};
        };
        address(axi4.ar, M_AXI(arvalid), M_AXI(arready), M_AXI(arid), M_AXI(araddr), M_AXI(arlen), M_AXI(arsize),
                M_AXI(arburst), M_AXI(arlock), M_AXI(arcache), M_AXI(arprot), M_AXI(arqos));
        address(axi4.aw, M_AXI(awvalid), M_AXI(awready), M_AXI(awid), M_AXI(awaddr), M_AXI(awlen), M_AXI(awsize),
                M_AXI(awburst), M_AXI(awlock), M_AXI(awcache), M_AXI(awprot), M_AXI(awqos));
        axi4.w.valid = M_AXI(wvalid);
        axi4.w.ready = M_AXI(wready);
        std::memcpy(axi4.w.payload.data, &M_AXI(wdata), BUS_BYTES);
        axi4.w.payload.strb = M_AXI(wstrb);
        axi4.w.payload.last = M_AXI(wlast);
        axi4.r.valid = M_AXI(rvalid);
        axi4.r.ready = M_AXI(rready);
        std::memcpy(axi4.r.payload.data, &M_AXI(rdata), BUS_BYTES);
        axi4.r.payload.id = M_AXI(rid);
        axi4.r.payload.resp = M_AXI(rresp);
        axi4.r.payload.last = M_AXI(rlast);
        address(axi4.b, M_AXI(bvalid), M_AXI(bready), M_AXI(bid), M_AXI(bresp));
        address(lite.aw, S_AXIL(awvalid), S_AXIL(awready), S_AXIL(awaddr), S_AXIL(awprot));
        address(lite.w, S_AXIL(wvalid), S_AXIL(wready), S_AXIL(wdata), S_AXIL(wstrb));
        address(lite.b, S_AXIL(bvalid), S_AXIL(bready), S_AXIL(bresp));
        address(lite.ar, S_AXIL(arvalid), S_AXIL(arready), S_AXIL(araddr), S_AXIL(arprot));
        address(lite.r, S_AXIL(rvalid), S_AXIL(rready), S_AXIL(rdata), S_AXIL(rresp));
        const bool clean = rules.violation().empty();
        rules.axi4(reset, axi4);
        rules.lite(reset, lite);
        if (clean && !rules.violation().empty()) violation = "cycle " + std::to_string(cycle) + ": " + rules.violation();
    }

    // The burst whose beat comes next, `reads.size()` where none is due: the oldest, or any that is its ID's oldest.
    size_t next_read() {
        if (!interleave) return !reads.empty() && reads.front().due <= cycle ? 0 : reads.size();
        size_t due[2], count = 0;
        uint32_t seen = 0;
        for (size_t i = 0; i < reads.size(); ++i) {
            if (!(seen >> reads[i].id & 1) && reads[i].due <= cycle) due[count++] = i;
            seen |= 1u << reads[i].id;
        }
        return count ? due[random() % count] : reads.size();
    }

    // Inputs of the coming edge.
    void drive() {
        if (M_AXI(awvalid) && writes_shown == writes_taken)
            writes.push_back({writes_shown++, M_AXI(awaddr), M_AXI(awlen) + 1, M_AXI(awid), OKAY});
        const bool has_place = !writes.empty() && (early_data || writes.front().number < writes_taken);
        M_AXI(arready) = moves(AR) && reads.size() < MAX_BURSTS && !chance();
        M_AXI(awready) = moves(AW) && writes.size() <= MAX_BURSTS && !chance();
        M_AXI(wready) = moves(W) && has_place && write_credit >= 1 && !chance();
        if (!read_shown && moves(R) && !reads.empty() && read_credit >= 1) {
            const size_t chosen = next_read();
            if (chosen < reads.size() && !chance()) {
                const ReadBurst& burst = reads[chosen];
                const int response = response_at(burst.addr, burst.addr + BUS_BYTES - 1, false);
                uint8_t data[BUS_BYTES] = {};
                if (response == OKAY) std::memcpy(data, &memory[burst.addr], BUS_BYTES);
                std::memcpy(&M_AXI(rdata), data, BUS_BYTES);
                M_AXI(rid) = burst.id;
                M_AXI(rresp) = response;
                M_AXI(rlast) = burst.beats == 1;
                read_chosen = chosen;
                read_shown = true;
            }
        }
        M_AXI(rvalid) = read_shown;
        if (!response_shown && moves(B) && !responses.empty() && responses.front().number < writes_taken &&
            responses.front().due <= cycle && !chance()) {
            M_AXI(bid) = responses.front().id;
            M_AXI(bresp) = responses.front().response;
            response_shown = true;
        }
        M_AXI(bvalid) = response_shown;
    }

    // Handshakes of the coming edge.
    void sample() {
        if (M_AXI(rvalid) && M_AXI(rready)) {
            ReadBurst& burst = reads[read_chosen];
            burst.addr += BUS_BYTES;
            if (--burst.beats == 0) reads.erase(reads.begin() + read_chosen);
            read_shown = false;
            read_credit -= 1;
        }
        if (M_AXI(bvalid) && M_AXI(bready)) {
            responses.pop_front();
            response_shown = false;
        }
        if (M_AXI(wvalid) && M_AXI(wready)) {
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
            if (--burst.beats == 0) {
                responses.push_back({burst.number, burst.id, burst.response, cycle + write_latency});
                writes.pop_front();
            }
            write_credit -= 1;
        }
        if (M_AXI(arvalid) && M_AXI(arready))
            reads.push_back({M_AXI(araddr), M_AXI(arlen) + 1, M_AXI(arid), cycle + read_latency});
        if (M_AXI(awvalid) && M_AXI(awready)) ++writes_taken;
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
#ifdef TIDEMILL_PROBE
        probe.sample(top, cycle);
#endif
        observe(false);
        sample();
        edge(true);
        edge(false);
        ++cycle;
    }

    // The NPU, the host and the memory's bus interface are reset together; a cycle without activity follows.
    void reset(int cycles) {
        reads.clear();
        writes.clear();
        responses.clear();
        read_shown = response_shown = false;
        writes_shown = writes_taken = 0;
        S_AXIL(awvalid) = S_AXIL(wvalid) = S_AXIL(arvalid) = S_AXIL(bready) = S_AXIL(rready) = 0;
        M_AXI(arready) = M_AXI(awready) = M_AXI(wready) = M_AXI(rvalid) = M_AXI(bvalid) = 0;
        top.rst = 1;
        for (int i = 0; i < cycles; ++i) {
            observe(true);
            edge(true);
            edge(false);
            ++cycle;
        }
        top.rst = 0;
        step();
    }
};

}  // namespace

extern "C" {

Model* tm_open(uint64_t bytes, uint64_t read_latency, uint64_t write_latency, double bandwidth, double stall,
               uint64_t seed, const axi::Limits* limits) {
    auto* model = new Model(bytes, read_latency, write_latency, bandwidth, stall, seed, *limits);
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

void tm_faults_clear(Model* model) { model->faults.clear(); }

// What the memory does from now on; transfers under way keep their latency.
void tm_timing(Model* model, uint64_t read_latency, uint64_t write_latency, double bandwidth, double stall, uint64_t seed,
               int interleave, int early_data) {
    model->read_latency = read_latency;
    model->write_latency = write_latency;
    model->bandwidth = bandwidth;
    model->stall = stall;
    model->random.seed(seed);
    model->interleave = interleave != 0;
    model->early_data = early_data != 0;
    model->read_credit = model->write_credit = 1;
}

// The memory's side of a channel stands still for `cycles` from now; a beat or response on offer stays on offer.
void tm_hold(Model* model, int channel, uint64_t cycles) { model->held_until[channel] = model->cycle + cycles; }

// Bursts that the NPU has begun and that have not ended.
uint64_t tm_in_flight(const Model* model) {
    return model->reads.size() + model->writes.size() + model->responses.size();
}

int tm_local_count(const Model* model) { return static_cast<int>(model->locals.size()); }

const char* tm_local_name(const Model* model, int index) { return model->locals[index].name; }

void* tm_local_data(const Model* model, int index) { return model->locals[index].data; }

uint64_t tm_local_bytes(const Model* model, int index) { return model->locals[index].bytes; }

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

#ifdef TIDEMILL_PROBE
uint64_t tm_probe_count(const Model* model) { return model->probe.events.size(); }

const void* tm_probe_events(const Model* model) { return model->probe.events.data(); }

void tm_probe_clear(Model* model) { model->probe.events.clear(); }
#endif

#ifdef TIDEMILL_COVERAGE
void tm_coverage_write(Model* model, const char* path) { model->context.coveragep()->write(path); }
#endif

void tm_trace_close(Model* model) {
#ifdef TIDEMILL_TRACE
    if (model->trace) model->trace->close();
    model->trace.reset();
#endif
}
}
