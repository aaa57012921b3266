/* A digit is read by a library that Cincel wrote. In this folder:
 *
 *     compile mnist_cnn_opset8.onnx --target neon --embed incbin -o mnist/
 *     make -C mnist
 *     cc -o digit neon_digit.c mnist/libmnist.a -lm && ./digit
 */
#include <stdio.h>

#include "mnist/model.h"

#define SIDE 14 /* of the drawing, whose points are 2 x 2 pixels */

static const char *const drawing[SIDE] = {
    "..............",
    "..............",
    "...########...",
    "..........#...",
    ".........##...",
    ".........#....",
    "........##....",
    "........#.....",
    ".......##.....",
    ".......#......",
    "......##......",
    "......#.......",
    "..............",
    "..............",
};

int main(void)
{
    static _Alignas(MNIST_ALIGNMENT) unsigned char arena[MNIST_ARENA_SIZE];
    static float image[MNIST_IN_INPUT3], scores[MNIST_OUT_PLUS214_OUTPUT_0];
    for (int y = 0; y < 2 * SIDE; y++)
        for (int x = 0; x < 2 * SIDE; x++)
            image[2 * SIDE * y + x] = drawing[y / 2][x / 2] == '#' ? 255.0f : 0.0f;

    const mnist_inputs in = {.input3 = image};
    const mnist_outputs out = {.plus214_output_0 = scores};
    if (mnist_init(NULL) != MNIST_OK)
        return 1;
    mnist_run(&in, &out, arena);

    int best = 0;
    for (int i = 1; i < MNIST_OUT_PLUS214_OUTPUT_0; i++)
        if (scores[i] > scores[best])
            best = i;
    printf("it is a %d\n", best);
    return 0;
}
