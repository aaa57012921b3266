/* small CNN: copies. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "simd.h"

void fill_8bit(const uint8_t *x, uint8_t *y, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] = *x;
}

/* Elements of 1 bytes; s and t are the distances between neighbours in x and in y. */
void copy_8bit_2d_rows(const uint8_t *x, uint8_t *y, size_t n0, size_t n1, ptrdiff_t s0, ptrdiff_t t0)
{
    for (size_t i0 = 0; i0 < n0; i0++) {
        const uint8_t *from = x + (ptrdiff_t)i0 * s0;
        uint8_t *to = y + (ptrdiff_t)i0 * t0;
        memcpy(to, from, n1 * sizeof *to);
    }
}

void copy_bytes(void *to, const void *from, size_t size)
{
    memcpy(to, from, size);
}
