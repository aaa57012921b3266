/* small CNN: the schedule. model.h says how to use it. */
#include "model.h"

#include "cpu.h"
#include "kernels.h"

/* Where values lie in the arena, in bytes; the order is that of the steps. */
enum {
    AT_IMAGE_1  = 0,    /* int8[1,16,16,3], 0.0243418 * (q-8) */
    AT_PAD      = 768,  /* int8[1,18,18,3], 0.0243418 * (q-8) */
    AT_STEM     = 0,    /* int8[1,8,8,8], 0.01088 * (q+128) */
    AT_BORDERED = 512,  /* scratch */
    AT_DEPTH    = 1344, /* int8[1,8,8,8], 0.00886017 * (q+128) */
    AT_POINT    = 512,  /* int8[1,8,8,8], 0.0261346 * (q+16) */
    AT_BLOCK    = 1024, /* int8[1,8,8,8], 0.0304811 * (q+39) */
    AT_SCORES   = 0,    /* int8[1,1,1,10], 0.0172479 * (q-81) */
};

/* Where constants lie in the weights. */
enum {
    W_FILL      = 0,    /* int8[1] */
    W_STEM_W    = 64,   /* uint8[560] */
    W_FACTORS   = 640,  /* int32[8] */
    W_FACTORS_2 = 704,  /* int32[8] */
    W_FACTORS_3 = 768,  /* int32[8] */
    W_DEPTH_W   = 832,  /* int8[1, 3, 3, 8] */
    W_POINT_W   = 960,  /* uint8[336] */
    W_FACTORS_4 = 1344, /* int32[11] */
    W_HEAD_W    = 1408, /* uint8[6464] */
};

static const unsigned char *weights;

/* Inputs, outputs, values in the arena, and weights; with a number of bytes from their begin. */
#define IN(name) ((const void *)in->name)
#define OUT(name) ((void *)out->name)
#define A(name) ((void *)(memory + AT_##name))
#define A_AT(name, bytes) ((void *)(memory + AT_##name + (bytes)))
#define W(name) ((const void *)(weights + W_##name))

#ifdef SMALL_CNN_PROFILE
void (*small_cnn_watch)(int step);
#define DONE(step) (small_cnn_watch ? small_cnn_watch(step - 1) : (void)0)
#else
#define DONE(step) ((void)0)
#endif

int small_cnn_init(const void *given)
{
    weights = given;
    if (!(small_cnn_cpu() & CPU_DOTPROD))
        return SMALL_CNN_CPU;
    if (!weights)
        return SMALL_CNN_UNALIGNED;
    return (uintptr_t)weights % SMALL_CNN_ALIGNMENT ? SMALL_CNN_UNALIGNED : SMALL_CNN_OK;
}

void small_cnn_run(const small_cnn_inputs *in, const small_cnn_outputs *out, void *arena)
{
    unsigned char *const memory = arena;

    /* 1. 1x16x16x3 elements moved (TRANSPOSE 0) */
    join_3_channels_8bit(IN(image), A(IMAGE_1), 256, 256);
    DONE(1);

    /* 2. filled with 8 (PAD 1) */
    fill_8bit(W(FILL), A(PAD), 972);
    DONE(2);

    /* 3. 1x16x16x3 elements moved (PAD 1) */
    copy_8bit_2d_rows(A(IMAGE_1), A_AT(PAD, 57), 16, 48, 48, 54);
    DONE(3);

    /* 4. 3x3 filters, 3 to 8 channels, 8x8 pixels (CONV_2D 2) */
    int8_product_dotprod_64x8x27_4b49a9(A(PAD), W(STEM_W), A(STEM));
    DONE(4);

    /* 5. a border of 1 above, 1 below, 1 left, 1 right (DEPTHWISE_CONV_2D 3) */
    add_border(A(STEM), A(BORDERED), 1, 8, 64, 1, 1, 8, 8, -128);
    DONE(5);

    /* 6. depthwise 3x3 filters, 8 channels (DEPTHWISE_CONV_2D 3) */
    depthwise_6e9e84(A(BORDERED), W(DEPTH_W), W(FACTORS), W(FACTORS_2), W(FACTORS_3), A(DEPTH));
    DONE(6);

    /* 7. 1x1 filters, 8 to 8 channels, 8x8 pixels (CONV_2D 4) */
    int8_product_dotprod_64x8x8_b5dd50(A(DEPTH), W(POINT_W), A(POINT));
    DONE(7);

    /* 8. add, 512 elements (ADD 5) */
    int8_sum_half_a(A(POINT), A(STEM), W(FACTORS_4), A(BLOCK), 32, 0);
    DONE(8);

    /* 9. 1x1 filters, 512 to 10 channels, 1x1 pixels (CONV_2D 7) */
    int8_product_dotprod_1x10x512_925524(A(BLOCK), W(HEAD_W), A(SCORES));
    DONE(9);

    /* 10. output scores */
    copy_bytes(OUT(scores), A(SCORES), 10);
    DONE(10);
}
