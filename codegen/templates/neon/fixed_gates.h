/* Functions of 16-bit numbers that stand for real numbers in Q(i): integers times 2^(i - 15). */
#ifndef CINCEL_FIXED_GATES_H
#define CINCEL_FIXED_GATES_H

#include "fixed.h"

/* a * b / 2^15, rounded half up. */
static inline int32_t high16(int32_t a, int32_t b)
{
    const int32_t p = (a * b + (1 << 14)) >> 15;
    return p > INT16_MAX ? INT16_MAX : p;
}

/* v * 2^by, rounded half away from zero to the right, saturated to the left. */
static inline int32_t shifted16(int32_t v, int by)
{
    return by <= 0 ? rounded_shift(v, -by) : clamped(v * (1 << by), INT16_MIN, INT16_MAX);
}

/* e^a in Q0 of -1/4 <= a < 0 in Q0, by a polynomial around -1/8. */
static inline int32_t exp_of_quarter16(int32_t a)
{
    const int32_t x = a + (1 << 12), x2 = high16(x, x), x3 = high16(x2, x), x4 = high16(x2, x2);
    const int32_t tail = high16(rounded_shift(x4, 2) + x3, 10923) + x2;
    const int32_t v = 28918 + high16(x + rounded_shift(tail, 1), 28918);
    return v > INT16_MAX ? INT16_MAX : v;
}

/* e^a in Q0 of a <= 0 in Q(bits): of what is left of quarters, times powers of e. */
static inline int32_t exp_of_negative16(int32_t a, int bits)
{
    static const int16_t powers[] = {25520, 19875, 12055, 4435, 600, 11, 0}; /* e^-(2^k), from k = -2 on */
    const int fraction = 15 - bits;
    const int32_t quarter = 1 << (fraction - 2), rest = (a & (quarter - 1)) - quarter, left = rest - a;
    int32_t v = exp_of_quarter16(shifted16(rest, bits));
    for (int k = -2; k < 5 && k < bits; k++)
        if (left >> (fraction + k) & 1)
            v = high16(v, powers[k + 2]);
    if (bits > 5 && a < -((int32_t)1 << (fraction + 5)))
        v = 0;
    return a ? v : INT16_MAX;
}

/* 2 / (1 + a) in Q2 of 0 <= a <= 1 in Q0, by three Newton-Raphson steps. */
static inline int32_t twice_reciprocal16(int32_t a)
{
    const int32_t half = (a + INT16_MAX + 1) / 2;
    int32_t x = 23130 + high16(half, -15420);
    for (int i = 0; i < 3; i++)
        x += shifted16(high16(x, (1 << 13) - high16(half, x)), 2);
    return x;
}

static inline int32_t logistic16(int32_t a, int bits)
{
    const int32_t v = shifted16(twice_reciprocal16(exp_of_negative16(a < 0 ? a : -a, bits)), 1);
    return a > 0 ? v : a ? INT16_MAX - v : 1 << 14;
}

static inline int32_t tanh16(int32_t a, int bits)
{
    const int32_t v = shifted16(twice_reciprocal16(exp_of_negative16(a < 0 ? a : -a, bits + 1)) - (1 << 13), 2);
    return a > 0 ? v : a ? -v : 0;
}

#endif
