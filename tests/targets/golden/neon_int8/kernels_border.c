/* small CNN: border. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "simd.h"

/* Images with equal bytes around them; sizes of lines, left and right are in bytes, top and bottom in lines. */
void add_border(const void *from, void *to, size_t images, size_t lines, size_t line, size_t top, size_t bottom,
    size_t left, size_t right, int fill)
{
    const size_t whole = left + line + right;
    const unsigned char *source = from;
    unsigned char *p = to;
    for (size_t image = 0; image < images; image++) {
        memset(p, fill, top * whole + left);
        p += top * whole + left;
        for (size_t i = 0; i < lines; i++) {
            memcpy(p, source, line);
            source += line;
            p += line;
            if (i + 1 < lines) {
                memset(p, fill, right + left);
                p += right + left;
            }
        }
        memset(p, fill, right + bottom * whole);
        p += right + bottom * whole;
    }
}
