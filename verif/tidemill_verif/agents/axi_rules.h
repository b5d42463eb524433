// The rules of the NPU's two bus ports, checked cycle by cycle; no simulator is needed.
//
// `Rules` is shown the signals of one port in one clock cycle, as they stand at the rising edge, and keeps the text of
// the first rule broken: "<rule>: <what happened>". docs/verification/bus-faults.md lists the rules and where each comes
// from. The structures are mirrored in axi_rules.py.

#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>

namespace axi {

// What is legal besides the AXI specification: the shape of one NPU and where its registers are.
struct Limits {
    uint32_t bus_bytes, max_burst, fetch_burst;       // bytes of a beat, beats of a burst
    uint32_t load_bursts, fetch_beats, write_bursts;  // most in flight
    uint32_t has_registers;  // both ports are watched: windows and idleness are known
    uint32_t prog_addr, prog_len, read_base, read_limit, write_base, write_limit, control, status;  // byte offsets
    uint32_t start_bit, active_bits;  // of CONTROL; of STATUS: bits that say the machine may still use the bus
    uint32_t patience;                // cycles within which a register access is answered
};

struct Address {
    uint32_t id, addr, len, size, burst, lock, cache, prot, qos;
};
struct WriteData {
    uint8_t data[16];
    uint32_t strb, last;
};
struct ReadData {
    uint8_t data[16];
    uint32_t id, resp, last;
};
struct Response {
    uint32_t id, resp;
};
struct LiteAddress {
    uint32_t addr, prot;
};
struct LiteWrite {
    uint32_t data, strb;
};
struct LiteRead {
    uint32_t data, resp;
};
struct LiteResponse {
    uint32_t resp;
};

// A channel in one cycle; the payload counts while valid.
template <typename T> struct Channel {
    uint32_t valid, ready;
    T payload;
};

struct Axi4 {
    Channel<Address> ar, aw;
    Channel<WriteData> w;
    Channel<ReadData> r;
    Channel<Response> b;
};
struct Lite {
    Channel<LiteAddress> aw;
    Channel<LiteWrite> w;
    Channel<LiteResponse> b;
    Channel<LiteAddress> ar;
    Channel<LiteRead> r;
};

constexpr uint32_t FETCH_ID = 0, LOAD_ID = 1, IDS = 2;
constexpr uint32_t INCR = 1, NORMAL_BUFFERABLE = 3, EXOKAY = 1;
constexpr uint64_t PAGE = 4096;

class Rules {
  public:
    explicit Rules(const Limits& limits) : limits(limits) {}

    const std::string& violation() const { return first; }

    // The AXI4 port in one cycle.
    void axi4(bool reset, const Axi4& now) {
        if (reset) {
            if (axi4_reset) {
                quiet("mem.reset", now.r.valid, "RVALID");
                quiet("mem.reset", now.b.valid, "BVALID");
            }
            forget_axi4();
        }
        if (axi4_reset) {
            quiet("axi.reset", now.ar.valid, "ARVALID");
            quiet("axi.reset", now.aw.valid, "AWVALID");
            quiet("axi.reset", now.w.valid, "WVALID");
        }
        axi4_reset = reset;
        if (reset) return;
        const bool new_ar = begins(ar_held, now.ar, "axi", "AR"), new_aw = begins(aw_held, now.aw, "axi", "AW");
        const bool new_w = begins(w_held, now.w, "axi", "W");
        const bool new_r = begins(r_held, now.r, "mem", "R"), new_b = begins(b_held, now.b, "mem", "B");
        if (new_ar) read_address(now.ar.payload);
        if (new_aw) write_address(now.aw.payload);
        if (new_w) write_data(now.w.payload);
        if (now.ar.valid && now.ar.ready) reads[now.ar.payload.id % IDS].push_back(now.ar.payload.len + 1);
        if (now.aw.valid && now.aw.ready) ++addresses_taken;
        if (now.w.valid && now.w.ready) data_taken();
        if (new_r) read_data(now.r.payload);
        if (new_b) response(now.b.payload);
        if (now.r.valid && now.r.ready) beat_taken(now.r.payload);
        if (now.b.valid && now.b.ready) {
            ++responses_taken;
            if (responses_taken == addresses_shown) strobes_off = false;
        }
    }

    // The AXI4-Lite port in one cycle.
    void lite(bool reset, const Lite& now) {
        if (lite_reset) {
            quiet("lite.reset", now.b.valid, "BVALID");
            quiet("lite.reset", now.r.valid, "RVALID");
        }
        if (reset) {
            if (lite_reset) {
                quiet("host.reset", now.aw.valid, "AWVALID");
                quiet("host.reset", now.w.valid, "WVALID");
                quiet("host.reset", now.ar.valid, "ARVALID");
            }
            forget_lite();
        }
        lite_reset = reset;
        if (reset) return;
        begins(lite_aw_held, now.aw, "host", "AW");
        begins(lite_w_held, now.w, "host", "W");
        begins(lite_ar_held, now.ar, "host", "AR");
        const bool new_b = begins(lite_b_held, now.b, "lite", "B"), new_r = begins(lite_r_held, now.r, "lite", "R");
        if (new_b) {
            if (!(have_address && have_data)) complain("lite.unasked", "BVALID without an address and data before it");
            if (now.b.payload.resp) complain("lite.response", "BRESP is not OKAY");
        }
        if (new_r) {
            if (!have_read) complain("lite.unasked", "RVALID without an address before it");
            if (now.r.payload.resp) complain("lite.response", "RRESP is not OKAY");
        }
        if (now.aw.valid && now.aw.ready) {
            if (have_address) complain("lite.one", "a second write address before the first write's response");
            have_address = true;
            write_word = now.aw.payload.addr & ~3u;
        }
        if (now.w.valid && now.w.ready) {
            if (have_data) complain("lite.one", "second write data before the first write's response");
            have_data = true;
            written = now.w.payload;
        }
        const bool write_asked = (now.aw.valid || have_address) && (now.w.valid || have_data);
        wait(write_wait, write_asked && !now.b.valid, "write");
        if (now.b.valid && now.b.ready) {
            have_address = have_data = applied = false;
            write_wait = 0;
        } else if (have_address && have_data && !applied) {
            applied = true;
            apply();
        }
        if (now.ar.valid && now.ar.ready) {
            if (have_read) complain("lite.one", "a second read address before the first read's response");
            have_read = true;
            read_word = now.ar.payload.addr & ~3u;
            starts_at_read = starts;
        }
        wait(read_wait, (now.ar.valid || have_read) && !now.r.valid, "read");
        if (now.r.valid && now.r.ready) {
            if (have_read && read_word == limits.status && !(now.r.payload.data & limits.active_bits) &&
                starts == starts_at_read)
                becomes_idle();
            have_read = false;
            read_wait = 0;
        }
    }

  private:
    template <typename T> struct Held {
        bool waiting;
        T payload;
    };
    struct Registers {
        uint32_t prog_addr, prog_len, read_base, read_limit, write_base, write_limit;
    };

    void complain(const char* rule, const std::string& text) {
        if (first.empty()) first = std::string(rule) + ": " + text;
    }

    static std::string hex(uint64_t value) {
        char text[24];
        std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
        return text;
    }

    void quiet(const char* rule, uint32_t valid, const char* name) {
        if (valid) complain(rule, std::string(name) + " is high in reset or in the first cycle after it");
    }

    // Valid stays and the payload holds until ready; whether a new transfer is offered in this cycle.
    template <typename T> bool begins(Held<T>& held, const Channel<T>& now, const char* side, const char* channel) {
        const bool continues = held.waiting;
        if (continues && !now.valid)
            complain((std::string(side) + ".hold").c_str(), std::string(channel) + "VALID fell before READY");
        if (continues && now.valid && std::memcmp(&now.payload, &held.payload, sizeof(T)))
            complain((std::string(side) + ".stable").c_str(), std::string(channel) + " payload changed before READY");
        held.waiting = now.valid && !now.ready;
        if (held.waiting) held.payload = now.payload;
        return now.valid && !continues;
    }

    void wait(uint32_t& waited, bool waiting, const char* what) {
        waited = waiting ? waited + 1 : 0;
        if (waited > limits.patience) complain("lite.late", std::string("no answer to a register ") + what);
    }

    void burst(const Address& a, uint32_t longest, const char* channel) {
        const std::string name = channel;
        if ((1u << a.size) != limits.bus_bytes || a.burst != INCR || a.addr % limits.bus_bytes)
            complain("axi.burst", name + " is no aligned, full-width, incrementing burst at " + hex(a.addr));
        if (a.len + 1 > longest) complain("axi.length", name + "LEN asks for more beats than the machine promises");
        if (a.addr / PAGE != (a.addr + (uint64_t(a.len + 1) << a.size) - 1) / PAGE)
            complain("axi.4k", name + " burst at " + hex(a.addr) + " crosses 4 KiB");
        if (a.lock || a.cache != NORMAL_BUFFERABLE || a.prot || a.qos)
            complain("axi.attributes", name + "LOCK, CACHE, PROT or QOS is not what the machine promises");
        if (limits.has_registers && idle)
            complain("axi.idle", name + " burst at " + hex(a.addr) + " though the machine is idle");
    }

    void inside(const Address& a, uint64_t from, uint64_t last, const char* window) {
        const uint64_t bus = limits.bus_bytes, end = a.addr + (a.len + 1) * bus - 1;
        if (limits.has_registers && (a.addr < from / bus * bus || end > last / bus * bus + bus - 1))
            complain("axi.window", "burst " + hex(a.addr) + " to " + hex(end) + " outside the " + window);
    }

    void read_address(const Address& a) {
        burst(a, a.id == FETCH_ID ? limits.fetch_burst : limits.max_burst, "AR");
        if (a.id == LOAD_ID) {
            inside(a, active.read_base, active.read_limit, "read window");
            if (++loads > limits.load_bursts) complain("axi.outstanding", "too many load bursts in flight");
        } else if (a.id == FETCH_ID) {
            const uint64_t length = uint64_t(active.prog_len) * 16, at = uint32_t(a.addr - active.prog_addr);
            if (limits.has_registers && at + (a.len + 1) * limits.bus_bytes > length)
                complain("axi.window", "fetch at " + hex(a.addr) + " outside the program");
            fetched += a.len + 1;
            if (fetched > limits.fetch_beats) complain("axi.outstanding", "too many fetch beats in flight");
        } else {
            complain("axi.id", "ARID is neither fetch nor load");
        }
    }

    void write_address(const Address& a) {
        burst(a, limits.max_burst, "AW");
        inside(a, active.write_base, active.write_limit, "write window");
        if (a.id) complain("axi.id", "AWID is not 0");
        lengths.push_back(a.len + 1);
        if (++addresses_shown - responses_taken > limits.write_bursts)
            complain("axi.outstanding", "too many write bursts in flight");
    }

    void write_data(const WriteData& w) {
        const uint32_t all = (uint64_t(1) << limits.bus_bytes) - 1;
        if (lengths.empty()) {
            complain("axi.early-data", "a write beat before AWVALID of its burst");
        } else if (bool(w.last) != (lengths.front() == 1)) {
            complain("axi.wlast", "WLAST is not on the burst's last beat");
        }
        if (w.strb && w.strb != all) complain("axi.strobe", "some strobes of a beat are off");
        if (w.strb && strobes_off) complain("axi.strobe", "strobes are on again in a drain");
        if (!w.strb) strobes_off = true;
    }

    void data_taken() {
        if (lengths.empty() || --lengths.front()) return;
        lengths.pop_front();
        ++bursts_sent;
    }

    void read_data(const ReadData& r) {
        const auto& bursts = reads[r.id % IDS];
        if (r.id >= IDS || bursts.empty()) {
            complain("mem.unasked", "read data of an ID that has no burst in flight");
        } else if (bool(r.last) != (bursts.front() == 1)) {
            complain("mem.rlast", "RLAST is not on the burst's last beat");
        }
        if (r.resp == EXOKAY) complain("mem.response", "RRESP is EXOKAY");
    }

    void beat_taken(const ReadData& r) {
        auto& bursts = reads[r.id % IDS];
        if (bursts.empty()) return;
        if (r.id == FETCH_ID) --fetched;
        if (--bursts.front()) return;
        bursts.pop_front();
        if (r.id == LOAD_ID) --loads;
    }

    void response(const Response& b) {
        const uint64_t complete = bursts_sent < addresses_taken ? bursts_sent : addresses_taken;
        if (b.id || responses_taken >= complete) complain("mem.unasked", "write response without a complete burst");
        if (b.resp == EXOKAY) complain("mem.response", "BRESP is EXOKAY");
    }

    bool reads_in_flight() const { return loads || fetched; }

    void becomes_idle() {
        idle = true;
        if (reads_in_flight() || addresses_shown != responses_taken)
            complain("axi.idle", "STATUS says idle, but bursts are in flight");
    }

    // A register write, as the machine takes it.
    void apply() {
        const auto store = [&](uint32_t& target) {
            for (int byte = 0; byte < 4; ++byte)
                if (written.strb >> byte & 1) {
                    const uint32_t mask = 0xFFu << 8 * byte;
                    target = (target & ~mask) | (written.data & mask);
                }
        };
        if (write_word == limits.prog_addr) {
            store(registers.prog_addr);
            registers.prog_addr &= ~0xFu;
        }
        if (write_word == limits.prog_len) {
            store(registers.prog_len);
            registers.prog_len &= 0xFFFFFF;
        }
        if (write_word == limits.read_base) store(registers.read_base);
        if (write_word == limits.read_limit) store(registers.read_limit);
        if (write_word == limits.write_base) store(registers.write_base);
        if (write_word == limits.write_limit) store(registers.write_limit);
        if (write_word == limits.control && written.strb & 1 && written.data & limits.start_bit) {
            ++starts;
            idle = false;
            active = registers;
        }
    }

    void forget_axi4() {
        ar_held.waiting = aw_held.waiting = w_held.waiting = r_held.waiting = b_held.waiting = false;
        for (auto& bursts : reads) bursts.clear();
        lengths.clear();
        loads = fetched = 0;
        addresses_shown = addresses_taken = bursts_sent = responses_taken = 0;
        strobes_off = false;
        idle = true;
    }

    void forget_lite() {
        lite_aw_held.waiting = lite_w_held.waiting = lite_b_held.waiting = false;
        lite_ar_held.waiting = lite_r_held.waiting = false;
        have_address = have_data = have_read = applied = false;
        write_wait = read_wait = 0;
        registers = active = Registers{};
    }

    const Limits limits;
    std::string first;
    bool axi4_reset = false, lite_reset = false;
    Held<Address> ar_held{}, aw_held{};
    Held<WriteData> w_held{};
    Held<ReadData> r_held{};
    Held<Response> b_held{};
    std::deque<uint32_t> reads[IDS];  // beats left of each burst taken
    std::deque<uint32_t> lengths;     // beats left of each write burst shown
    uint64_t loads = 0, fetched = 0;  // load bursts and fetch beats in flight
    uint64_t addresses_shown = 0, addresses_taken = 0, bursts_sent = 0, responses_taken = 0;
    bool strobes_off = false, idle = true;
    Held<LiteAddress> lite_aw_held{}, lite_ar_held{};
    Held<LiteWrite> lite_w_held{};
    Held<LiteRead> lite_r_held{};
    Held<LiteResponse> lite_b_held{};
    bool have_address = false, have_data = false, have_read = false, applied = false;
    uint32_t write_wait = 0, read_wait = 0, write_word = 0, read_word = 0;
    uint64_t starts = 0, starts_at_read = 0;
    LiteWrite written{};
    Registers registers{}, active{};
};

}  // namespace axi
