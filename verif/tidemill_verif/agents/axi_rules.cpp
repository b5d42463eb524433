// `axi::Rules` as a C interface that Python loads with ctypes.

#include "axi_rules.h"

extern "C" {

axi::Rules* rules_open(const axi::Limits* limits) { return new axi::Rules(*limits); }

void rules_close(axi::Rules* rules) { delete rules; }

void rules_axi4(axi::Rules* rules, int reset, const axi::Axi4* now) { rules->axi4(reset != 0, *now); }

void rules_lite(axi::Rules* rules, int reset, const axi::Lite* now) { rules->lite(reset != 0, *now); }

const char* rules_violation(const axi::Rules* rules) { return rules->violation().c_str(); }
}
