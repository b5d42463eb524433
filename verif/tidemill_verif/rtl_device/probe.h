// What the coverage of the whole machine samples, in builds with coverage: instructions as engines take and complete
// them (`coverage/probe.py`).

#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

struct ProbeEvent {
    uint64_t cycle;
    uint32_t kind;  // 0 to 3: this engine takes `word`; 4: the completions of the lower bits of word[0]
    uint32_t word[4];
};

struct Probe {
    std::vector<ProbeEvent> events;

    // Before the edge of `cycle`.
    template <typename Top> void sample(const Top& top, uint64_t cycle) {
        const uint32_t issued = top.probe_issued;
        if (issued & 1) take(cycle, 0, &top.probe_word___05F0);
        if (issued & 2) take(cycle, 1, &top.probe_word___05F1);
        if (issued & 4) take(cycle, 2, &top.probe_word___05F2);
        if (issued & 8) take(cycle, 3, &top.probe_word___05F3);
        if (top.probe_done) events.push_back({cycle, 4, {top.probe_done, 0, 0, 0}});
    }

    void take(uint64_t cycle, uint32_t engine, const void* word) {
        ProbeEvent event{cycle, engine, {}};
        std::memcpy(event.word, word, sizeof(event.word));
        events.push_back(event);
    }
};
