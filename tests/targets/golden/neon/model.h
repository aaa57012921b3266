/* small CNN
 *
 * 6 steps, 26,560 bytes of weights, 6,976 bytes of working memory. Nothing is allocated.
 *
 *     static _Alignas(SMALL_CNN_ALIGNMENT) unsigned char arena[SMALL_CNN_ARENA_SIZE];
 *
 *     small_cnn_init(weights);            once
 *     small_cnn_run(&inputs, &outputs, arena);  as often as wanted
 *
 * Any number of threads may call small_cnn_run at the same time, each with an arena of its own.
 */
#ifndef SMALL_CNN_H
#define SMALL_CNN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SMALL_CNN_INTERFACE 1 /* goes up when callers have to change */
#define SMALL_CNN_THREADS 1
#define SMALL_CNN_ALIGNMENT 64 /* of the arena and of the weights, in bytes */
#define SMALL_CNN_ARENA_SIZE 6976u /* bytes; what is in it between runs does not matter */
#define SMALL_CNN_WEIGHTS_SIZE 26560u /* bytes of weights.bin */

/* Tensors are elements one after the other, the last axis the innermost. SMALL_CNN_IN_..., SMALL_CNN_OUT_...: their
 * number. */
typedef struct {
    /* image: f32[1,3,16,16] */
    const float *image;
} small_cnn_inputs;

typedef struct {
    /* scores: f32[1,10] */
    float *scores;
} small_cnn_outputs;

#define SMALL_CNN_IN_IMAGE 768 /* 1 x 3 x 16 x 16 */
#define SMALL_CNN_OUT_SCORES 10 /* 1 x 10 */

enum {
    SMALL_CNN_OK = 0,
    SMALL_CNN_UNALIGNED = -1, /* the weights are not aligned, or missing */
    SMALL_CNN_CPU = -2,       /* the processor lacks what the kernels need */
};

/* To be called before anything else, with what is in weights.bin, which has to stay where it is. */
int small_cnn_init(const void *weights);

/* One inference. Inputs are only read; they, outputs and the arena may not overlap. */
void small_cnn_run(const small_cnn_inputs *inputs, const small_cnn_outputs *outputs, void *arena);

#ifdef SMALL_CNN_PROFILE
#define SMALL_CNN_STEPS 6
extern void (*small_cnn_watch)(int step); /* if set, told of each step when it is done, from 0 on */
#endif

#ifdef __cplusplus
}
#endif

#endif
