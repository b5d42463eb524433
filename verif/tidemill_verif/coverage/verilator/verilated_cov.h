// Found before Verilator's own header of this name (`collect.VERILATOR_FLAGS`), which it corrects: the function below of
// Verilator 5.052 walks over more than the bits of a word, so that in signals wider than 64 bits a change of bit 0 counts
// for bits 32, 64, ... too, and bits that never move are reported as hit.
#ifndef TIDEMILL_VERILATED_COV_H_
#define TIDEMILL_VERILATED_COV_H_

#define VL_COV_TOGGLE_CHG_ST_W vl_cov_toggle_chg_st_w_uncorrected
#include_next "verilated_cov.h"
#undef VL_COV_TOGGLE_CHG_ST_W

// Counts the bits of `width` that differ: covp[2 * bit] those that fell, covp[2 * bit + 1] those that rose.
inline void VL_COV_TOGGLE_CHG_ST_W(const int width, uint32_t* covp, WDataInP newData, WDataInP oldData) {
    for (int word = 0; word < VL_WORDS_I(width); ++word) {
        for (EData changed = newData[word] ^ oldData[word]; changed; changed &= changed - 1) {
            const int bit = __builtin_ctz(changed);
            ++covp[(word * VL_EDATASIZE + bit) * 2 + ((newData[word] >> bit) & 1)];
        }
    }
}

#endif
