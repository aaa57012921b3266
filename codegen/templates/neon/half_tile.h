/* Tiles of products of halves that are computed in 32 bits. */
#ifndef CINCEL_HALF_TILE_H
#define CINCEL_HALF_TILE_H

#include "halves.h"

enum { HALF_ROWS = 8 };

/* How the elements of a row lie: `run` after each other, and that so often, so far apart, the inner first. */
typedef struct { size_t run, count1, pitch1, count2, pitch2; } half_walk;

#if defined(__aarch64__)
#define TILE INLINE
#else
#define TILE static __attribute__((noinline, unused)) /* compilers take long for many of them */
#endif

/* Sums of `rows` rows of x, at most HALF_ROWS, times `quads` packed vectors of four columns of w, behind their biases;
 * the tile lies row by row. With constants for sizes it is in registers. */
TILE void half_tile(float32x4_t *tile, size_t rows, size_t quads, const half_t *x, size_t ldx, const half_t *w,
    half_walk walk)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < quads; j++)
            tile[i * quads + j] = load_half_x4(w + 4 * j);
    const half_t *wi = w + 4 * quads;
    for (size_t s2 = 0; s2 < walk.count2; s2++)
    for (size_t s1 = 0; s1 < walk.count1; s1++) {
        const size_t start = s2 * walk.pitch2 + s1 * walk.pitch1;
        for (size_t c = start; c < start + walk.run; c++, wi += 4 * quads) {
            float xc[HALF_ROWS];
            for (size_t i = 0; i < rows; i++)
                xc[i] = half_to_float(x[i * ldx + c]);
            for (size_t j = 0; j < quads; j++) {
                const float32x4_t b = load_half_x4(wi + 4 * j);
                for (size_t i = 0; i < rows; i++)
                    tile[i * quads + j] = vfmaq_n_f32(tile[i * quads + j], b, xc[i]);
            }
        }
    }
}

#endif
