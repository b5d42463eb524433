// A Verilated board with its serial line: a C interface that Python loads with ctypes.
//
// Towards the board the line carries symbols: a byte; a byte with a wrong stop bit; a low level, or a pause, of some bit
// times. From the board come bytes; those with a wrong stop bit are left out.

#include <cstdint>
#include <deque>

#include "Vtop.h"
#include "verilated.h"
#ifdef SDRAM
#include "sdram.h"
#endif

namespace {

constexpr uint32_t BYTE = 0, BAD_STOP = 1, LOW = 2, PAUSE = 3;  // upper byte of a symbol; the rest is its value

struct Board {
    VerilatedContext context;
    Vtop top{&context, "top"};
    uint32_t divisor;
    std::deque<uint32_t> to_board;
    std::deque<uint8_t> to_host;
    uint64_t cycle = 0, moved = 0;  // cycle in which a line moved last
    // The symbol on the line: its levels, lowest bit first, each one bit time; a long one is a level and a count.
    uint64_t levels = 0;
    uint32_t levels_left = 0, level_cycles = 0;
    bool level_fixed = false;
    // What is being received from the board.
    uint32_t sample_in = 0, bits = 0, received = 0;
    bool receiving = false;

#ifdef SDRAM
    Sdram sdram;

    Board(uint32_t divisor, const double* times) : divisor(divisor), sdram(*reinterpret_cast<const SdramTimes*>(times)) {
        top.rx = 1;
    }

    void half(bool level) {
        sdram.before(top);
        top.clk = level;
        top.eval();
        sdram.after(top);
    }
#else
    Board(uint32_t divisor, const double*) : divisor(divisor) { top.rx = 1; }

    void half(bool level) {
        top.clk = level;
        top.eval();
    }
#endif

    void next_symbol() {
        const uint32_t symbol = to_board.front(), kind = symbol >> 24, value = symbol & 0xFFFFFF;
        to_board.pop_front();
        level_fixed = kind == LOW || kind == PAUSE;
        if (level_fixed) {
            levels = kind == PAUSE;
            levels_left = value;
        } else {
            levels = (value & 0xFF) << 1 | uint64_t(kind == BYTE) << 9;
            levels_left = 10;
        }
    }

    // The level of the board's input pin in the coming cycle.
    void drive() {
        if (level_cycles == 0) {
            if (levels_left == 0 && !to_board.empty()) next_symbol();
            if (levels_left == 0) {
                top.rx = 1;
                return;
            }
            const uint8_t level = levels & 1;
            if (level != top.rx) moved = cycle;
            top.rx = level;
            if (!level_fixed) levels >>= 1;
            --levels_left;
            level_cycles = divisor;
        }
        --level_cycles;
    }

    void listen() {
        if (!receiving) {
            if (top.tx) return;
            receiving = true;
            bits = 0;
            received = 0;
            sample_in = divisor / 2;
            return;
        }
        if (--sample_in) return;
        sample_in = divisor;
        moved = cycle;
        if (bits > 0 && bits < 9) received |= uint32_t(top.tx) << (bits - 1);
        if (bits == 9) {
            if (top.tx) to_host.push_back(received);
            receiving = false;
        }
        ++bits;
    }

    void step() {
        drive();
        half(true);
        half(false);
        listen();
        ++cycle;
    }
};

}  // namespace

extern "C" {

// `times`: of the SDRAM, where the board has one.
Board* bs_open(uint32_t divisor, const double* times) {
    auto* board = new Board(divisor, times);
    board->top.clk = 0;
    board->top.rst = 0;
    board->top.eval();
    return board;
}

void bs_close(Board* board) {
    board->top.final();
    delete board;
}

// Reset of the board's logic; memories keep their content.
void bs_reset(Board* board, uint32_t cycles) {
    board->top.rst = 1;
    while (cycles--) board->step();
    board->top.rst = 0;
}

void bs_send(Board* board, const uint32_t* symbols, uint32_t count) {
    board->to_board.insert(board->to_board.end(), symbols, symbols + count);
}

uint32_t bs_pending(const Board* board) { return board->to_board.size() + (board->levels_left > 0); }

void bs_run(Board* board, uint64_t cycles) {
    while (cycles--) board->step();
}

uint32_t bs_receive(Board* board, uint8_t* data, uint32_t room) {
    uint32_t count = 0;
    for (; count < room && !board->to_host.empty(); ++count) {
        data[count] = board->to_host.front();
        board->to_host.pop_front();
    }
    return count;
}

uint64_t bs_cycle(const Board* board) { return board->cycle; }

// Cycles since a line moved.
uint64_t bs_quiet(const Board* board) { return board->cycle - board->moved; }

// The first rule of the SDRAM that the board broke, empty while none is.
const char* bs_broken(const Board* board) {
#ifdef SDRAM
    return board->sdram.broken.c_str();
#else
    return "";
#endif
}

int bs_locked(const Board* board) { return board->top.locked; }
}
