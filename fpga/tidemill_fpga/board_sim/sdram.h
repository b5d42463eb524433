// An SDR SDRAM of four banks and 16 data lines at the pins of a Verilated board, half a cycle at a time. It holds the
// board to the datasheet's times and puts noise on the data lines whenever no word is certain.

#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

// What Python passes, in this order; in ns but for the bits.
struct SdramTimes {
    double period, pads, ac, oh, rcd, rp, ras, rc, rrd, wr, rfc, refresh, power_up, row_bits, col_bits;
};

class Sdram {
  public:
    explicit Sdram(const SdramTimes& times)
        : t(times), words(size_t(4) << (unsigned(times.row_bits) + unsigned(times.col_bits))) {}

    std::string broken;  // the first rule that was broken, empty while none is

    // Before half a cycle: what the board's input registers see at its beginning.
    template <class Top>
    void before(Top& top) {
        now += t.period / 2;
        while (!coming.empty() && coming.front().until < now) coming.pop_front();
        const bool there = !coming.empty() && coming.front().from <= now;
        noise = noise * 1664525 + 1013904223;
        top.sdram_dq_i = there ? coming.front().word : noise >> 16;
        clock = top.sdram_clk;
        seen = inputs(top);
    }

    // After it, with the pins as they are then.
    template <class Top>
    void after(Top& top) {
        const Inputs is = inputs(top);
        if (!clock && top.sdram_clk) {
            check(is == seen, "inputs change at the clock's edge");
            edge();
        }
        if (is.driven)
            check(std::none_of(coming.begin(), coming.end(),
                               [&](const Word& word) { return word.from - t.ac <= now && now <= word.until; }),
                  "both sides drive the data lines");
    }

  private:
    struct Inputs {
        uint32_t cke, command, ba, a, dqm, driven, dq;
        bool operator==(const Inputs&) const = default;
    };
    struct Word {
        double from, until;
        uint16_t word;
    };
    enum { SET_MODE, REFRESH, PRECHARGE, ACTIVATE, WRITE, READ, NOP = 7 };
    static constexpr double never = -1e12;

    SdramTimes t;
    std::vector<uint16_t> words;
    std::deque<Word> coming;
    Inputs seen{};
    double now = 0, awake = never, running = 0, refreshed = never, mode_set = never;
    double opened[4] = {never, never, never, never}, closed[4] = {never, never, never, never};
    double written[4] = {never, never, never, never};
    int64_t row[4] = {-1, -1, -1, -1};
    uint32_t latency = 0, refreshes = 0, noise = 1;
    bool clock = false, was_awake = false;

    template <class Top>
    static Inputs inputs(const Top& top) {
        const uint32_t command = top.sdram_ras << 2 | top.sdram_cas << 1 | top.sdram_we;
        return {top.sdram_clk_en, top.sdram_cs ? uint32_t(NOP) : command, top.sdram_ba, top.sdram_a,
                top.sdram_dqm,    top.sdram_dq_oe, top.sdram_dq_oe ? top.sdram_dq_o : 0u};
    }

    void check(bool good, const char* rule) {
        if (!good && broken.empty()) broken = std::to_string(int64_t(now)) + " ns: " + rule;
    }

    void since(double time, double least, const char* rule) { check(now - time >= least - 1e-6, rule); }

    bool closed_all() const { return std::all_of(row, row + 4, [](int64_t r) { return r < 0; }); }

    void edge() {
        // Commands count from the edge after the one that saw the clock enabled.
        const bool counts = was_awake && seen.cke;
        if (!seen.cke) {
            latency = refreshes = 0;
            awake = now;
        }
        was_awake = seen.cke;
        if (!counts || seen.command == NOP) return;
        since(awake, t.power_up, "a command before the power-up time is over");
        since(refreshed, t.rfc, "tRFC");
        since(mode_set, 2 * t.period, "tMRD");
        switch (seen.command) {
            case ACTIVATE: return activate();
            case READ:
            case WRITE: return access();
            case PRECHARGE:
                for (unsigned bank = 0; bank < 4; ++bank)
                    if (seen.a >> 10 & 1 || bank == seen.ba) precharge(bank);
                return;
            case REFRESH:
                check(closed_all(), "REFRESH with an open bank");
                for (double time : closed) since(time, t.rp, "tRP");
                refreshed = now;
                ++refreshes;
                return;
            case SET_MODE:
                check(closed_all(), "SET_MODE with an open bank");
                check(refreshes >= 8, "SET_MODE before 8 refreshes");
                check((seen.a & ~0x70u) == 0, "not sequential bursts of one word");
                latency = seen.a >> 4;
                mode_set = running = now;
                refreshes = 0;
                return;
            default: check(false, "a command that is not used");
        }
    }

    void activate() {
        const unsigned bank = seen.ba;
        check(latency > 0, "ACTIVATE before the mode is set");
        check(row[bank] < 0, "ACTIVATE of an open bank");
        check(seen.a >> unsigned(t.row_bits) == 0, "a row beyond the device");
        since(closed[bank], t.rp, "tRP");
        since(opened[bank], t.rc, "tRC");
        since(*std::max_element(opened, opened + 4), t.rrd, "tRRD");
        const double interval = t.refresh / (1 << unsigned(t.row_bits));
        check(refreshes + 2 >= (now - running) / interval, "refreshes come too seldom");
        row[bank] = seen.a;
        opened[bank] = now;
    }

    void access() {
        const unsigned bank = seen.ba;
        check(row[bank] >= 0, "access to a closed bank");
        check(seen.a >> unsigned(t.col_bits) == 0, "a column beyond the device");
        since(opened[bank], t.rcd, "tRCD");
        if (!broken.empty()) return;
        uint16_t& word = words[(size_t(row[bank]) << 2 | bank) << unsigned(t.col_bits) | seen.a];
        if (seen.command == READ) {
            check(!seen.driven, "the board drives the data lines at a READ");
            check(seen.dqm == 0, "masks at a READ");
            const double edge = now + (latency - 1) * t.period;
            coming.push_back({edge + t.ac + t.pads, edge + t.period + t.oh + t.pads, word});
            return;
        }
        check(seen.driven, "WRITE without data");
        const uint16_t mask = (seen.dqm & 1 ? 0x00FF : 0) | (seen.dqm & 2 ? 0xFF00 : 0);
        word = (word & mask) | (seen.dq & ~mask);
        written[bank] = now;
    }

    void precharge(unsigned bank) {
        if (row[bank] >= 0) {
            since(opened[bank], t.ras, "tRAS");
            since(written[bank], std::max(t.wr, 2 * t.period), "tWR");
            closed[bank] = now;
        }
        row[bank] = -1;
    }
};
