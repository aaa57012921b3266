/* The kernels of small CNN. */
#ifndef SMALL_CNN_KERNELS_H
#define SMALL_CNN_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Linkers see the name of the library before that of the kernel, so that several libraries fit into one program. */
#define join_3_channels_32bit small_cnn_join_3_channels_32bit
#define add_border small_cnn_add_border
#define conv_3x3_3_at_18x18_to_8_s2x2_relu small_cnn_conv_3x3_3_at_18x18_to_8_s2x2_relu
#define depthwise_3x3_s1_relu6_210359 small_cnn_depthwise_3x3_s1_relu6_210359
#define gemm_8x8_add_dcb20b small_cnn_gemm_8x8_add_dcb20b
#define gemm_1x12_0_10 small_cnn_gemm_1x12_0_10

void join_3_channels_32bit(const uint32_t *x, uint32_t *y, size_t columns, size_t s);
void add_border(const void *from, void *to, size_t images, size_t lines, size_t line, size_t top, size_t bottom,
    size_t left, size_t right, int fill);
void conv_3x3_3_at_18x18_to_8_s2x2_relu(const float *x, const float *w, float *y, size_t begin, size_t last);
void depthwise_3x3_s1_relu6_210359(const float *x, const float *w, float *y, size_t images, size_t height, size_t width,
    size_t channels, size_t out_height, size_t out_width, size_t begin, size_t end, size_t top, size_t block);
void gemm_8x8_add_dcb20b(const float *x, const float *w, const float *r, float *y, size_t tiles, size_t n, size_t k,
    size_t block);
void gemm_1x12_0_10(const float *x, const float *w, float *y, size_t tiles, size_t n, size_t k, size_t block);

#endif
