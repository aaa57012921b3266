/* The kernels of small CNN. */
#ifndef SMALL_CNN_KERNELS_H
#define SMALL_CNN_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Linkers see the name of the library before that of the kernel, so that several libraries fit into one program. */
#define join_3_channels_8bit small_cnn_join_3_channels_8bit
#define fill_8bit small_cnn_fill_8bit
#define copy_8bit_2d_rows small_cnn_copy_8bit_2d_rows
#define int8_product_dotprod_64x8x27_4b49a9 small_cnn_int8_product_dotprod_64x8x27_4b49a9
#define add_border small_cnn_add_border
#define depthwise_6e9e84 small_cnn_depthwise_6e9e84
#define int8_product_dotprod_64x8x8_b5dd50 small_cnn_int8_product_dotprod_64x8x8_b5dd50
#define int8_sum_half_a small_cnn_int8_sum_half_a
#define int8_product_dotprod_1x10x512_925524 small_cnn_int8_product_dotprod_1x10x512_925524
#define copy_bytes small_cnn_copy_bytes

void join_3_channels_8bit(const uint8_t *x, uint8_t *y, size_t columns, size_t s);
void fill_8bit(const uint8_t *x, uint8_t *y, size_t count);
void copy_8bit_2d_rows(const uint8_t *x, uint8_t *y, size_t n0, size_t n1, ptrdiff_t s0, ptrdiff_t t0);
void int8_product_dotprod_64x8x27_4b49a9(const int8_t *x, const void *w, int8_t *y);
void add_border(const void *from, void *to, size_t images, size_t lines, size_t line, size_t top, size_t bottom,
    size_t left, size_t right, int fill);
void depthwise_6e9e84(const int8_t *xa, const int8_t *xb, const int32_t *xc, const int32_t *xd, const int32_t *xe,
    int8_t *y);
void int8_product_dotprod_64x8x8_b5dd50(const int8_t *x, const void *w, int8_t *y);
void int8_sum_half_a(const int8_t *a, const int8_t *b, const int32_t *numbers, int8_t *y, size_t steps, size_t rest);
void int8_product_dotprod_1x10x512_925524(const int8_t *x, const void *w, int8_t *y);
void copy_bytes(void *to, const void *from, size_t size);

#endif
