/* Positions that are data, and where they lead. */
#ifndef CINCEL_PLACES_H
#define CINCEL_PLACES_H

#include <stddef.h>
#include <stdint.h>

/* An index of `length` elements: a negative one counts from the end; beyond the ends it is the nearest. */
static inline size_t place(int64_t index, size_t length)
{
    const int64_t end = (int64_t)length, at = index < 0 ? index + end : index;
    return at <= 0 ? 0 : at < end ? (size_t)at : length - 1;
}

/* The nearest of 0 ... length - 1. */
static inline ptrdiff_t clamped(ptrdiff_t at, ptrdiff_t length)
{
    return at < 0 ? 0 : at < length ? at : length - 1;
}

/* From one end again. */
static inline ptrdiff_t wrapped(ptrdiff_t at, ptrdiff_t length)
{
    const ptrdiff_t rest = at % length;
    return rest < 0 ? rest + length : rest;
}

/* Mirrored at the first and at the last, as often as needed. */
static inline ptrdiff_t mirrored(ptrdiff_t at, ptrdiff_t length)
{
    if (length == 1)
        return 0;
    const ptrdiff_t rest = wrapped(at, 2 * (length - 1));
    return rest < length ? rest : 2 * (length - 1) - rest;
}

#endif
