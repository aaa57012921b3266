/* small CNN: the schedule. model.h says how to use it. */
#include "model.h"

#include "kernels.h"

/* Where values lie in the arena, in bytes; the order is that of the steps. */
enum {
    AT_IMAGE             = 0,    /* f32[1,3,16,16] in the order 0,2,3,1 */
    AT_IMAGE_WITH_BORDER = 3072, /* scratch */
    AT_STEM_RELU         = 0,    /* f32[1,8,8,8] in the order 0,2,3,1 */
    AT_DEPTH_RELU6       = 2048, /* f32[1,8,8,8] in the order 0,2,3,1 */
    AT_BLOCK             = 4096, /* f32[1,8,8,8] in the order 0,2,3,1 */
};

/* Where constants lie in the weights. */
enum {
    W_STEM_W  = 0,    /* float32[256] */
    W_DEPTH_W = 1024, /* float32[80] */
    W_POINT_W = 1344, /* float32[104] */
    W_HEAD_W  = 1792, /* float32[6188] */
};

static const unsigned char *weights;

/* Inputs, outputs, values in the arena, and weights; with a number of bytes from their begin. */
#define IN(name) ((const void *)in->name)
#define OUT(name) ((void *)out->name)
#define A(name) ((void *)(memory + AT_##name))
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
    if (!weights)
        return SMALL_CNN_UNALIGNED;
    return (uintptr_t)weights % SMALL_CNN_ALIGNMENT ? SMALL_CNN_UNALIGNED : SMALL_CNN_OK;
}

void small_cnn_run(const small_cnn_inputs *in, const small_cnn_outputs *out, void *arena)
{
    unsigned char *const memory = arena;

    /* 1. transpose of f32[1,3,16,16] (stem) */
    join_3_channels_32bit(IN(image), A(IMAGE), 256, 256);
    DONE(1);

    /* 2. border of 1, 1, 1, 1 zeros (stem) */
    add_border(A(IMAGE), A(IMAGE_WITH_BORDER), 1, 16, 192, 1, 1, 12, 12, 0);
    DONE(2);

    /* 3. 3x3 convolution, 3 to 8 channels (stem, stem/relu) */
    conv_3x3_3_at_18x18_to_8_s2x2_relu(A(IMAGE_WITH_BORDER), W(STEM_W), A(STEM_RELU), 0, 8);
    DONE(3);

    /* 4. depthwise 3x3 convolution, 8 channels (block/{depth, relu6}) */
    depthwise_3x3_s1_relu6_210359(A(STEM_RELU), W(DEPTH_W), A(DEPTH_RELU6), 1, 8, 8, 8, 8, 8, 0, 8, 1, 8);
    DONE(4);

    /* 5. 1x1 convolution, 8 to 8 channels, 64 rows (block/{point, add}) */
    gemm_8x8_add_dcb20b(A(DEPTH_RELU6), W(POINT_W), A(STEM_RELU), A(BLOCK), 8, 8, 8, 8);
    DONE(5);

    /* 6. 512 to 10 features, 1 row (head) */
    gemm_1x12_0_10(A(BLOCK), W(HEAD_W), OUT(scores), 1, 10, 512, 1);
    DONE(6);
}
