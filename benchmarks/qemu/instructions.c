/* A plugin for qemu-aarch64 in user mode: how many instructions a program executes, by class.
 *
 *   cc -O2 -shared -fPIC -o instructions.so instructions.c
 *   qemu-aarch64 -plugin ./instructions.so,out=FILE[,blocks=BLOCKS] PROGRAM ...
 *
 * FILE gets a line of JSON each time the program closes the file descriptor MARK, which no program has open, and one
 * when it ends: the counts from the start. BLOCKS gets a line for each block of code: address, instructions in it, how
 * often it was executed. Counters are not atomic, so that threads at the same time may lose counts.
 *
 * What is used of qemu's interface, version 1 (qemu 5.2 to 8.2), is declared here, as distributions ship no header.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MARK (-7777)
enum { SYSCALL_CLOSE = 57, INLINE_ADD_U64 = 0 };

typedef uint64_t qemu_plugin_id_t;
struct qemu_info;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation, void *to, uint64_t value);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t,
                                          void (*)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                   uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = 1;

enum class {
    FMA, FMA_FP16, DOT, MMLA, WIDENING, PERMUTE, SIMD, /* arithmetic of vectors, and of scalar floats */
    VECTOR_LOAD, VECTOR_LOADS, VECTOR_STORE, LOAD, STORE, /* VECTOR_LOADS: of several registers */
    BRANCH, INTEGER, CLASSES
};

static const char *const names[CLASSES] = {
    "fma", "fma_fp16", "dot", "mmla", "widening", "permute", "simd", "vector_load", "vector_loads", "vector_store",
    "load", "store", "branch", "integer",
};

/* Instructions `code` with `(code & mask) == value`; of several rules the first that holds. */
static const struct {
    uint32_t mask, value;
    enum class class;
} rules[] = {
    {0x1c000000, 0x14000000, BRANCH},
    /* fp32 and fp64 fmla, fmls: of vectors, by element */
    {0xbf20fc00, 0x0e20cc00, FMA},
    {0xbf80b400, 0x0f801000, FMA},
    /* fp16 fmla, fmls; fmlal, fmlal2, fmlsl, fmlsl2 */
    {0xbf60fc00, 0x0e400c00, FMA_FP16},
    {0xbfc0b400, 0x0f001000, FMA_FP16},
    {0xbf60fc00, 0x0e20ec00, FMA_FP16},
    {0xbf60fc00, 0x2e20cc00, FMA_FP16},
    {0xbfc0b400, 0x0f800000, FMA_FP16},
    {0xbfc0b400, 0x2f808000, FMA_FP16},
    /* sdot, udot: of vectors, by element; usdot, sudot */
    {0x9fe0fc00, 0x0e809400, DOT},
    {0x9fc0f400, 0x0f80e000, DOT},
    {0xbfe0fc00, 0x0e809c00, DOT},
    {0xbf40f400, 0x0f00f000, DOT},
    /* smmla, ummla; usmmla; bfmmla */
    {0xdfe0fc00, 0x4e80a400, MMLA},
    {0xffe0fc00, 0x4e80ac00, MMLA},
    {0xffe0fc00, 0x6e40ec00, MMLA},
    /* smlal, smlsl; smull: of vectors, by element; saddlp, sadalp; unsigned too */
    {0x9f20dc00, 0x0e208000, WIDENING},
    {0x9f20fc00, 0x0e20c000, WIDENING},
    {0x9f00b400, 0x0f002000, WIDENING},
    {0x9f00f400, 0x0f00a000, WIDENING},
    {0x9f3fbc00, 0x0e202800, WIDENING},
    /* tbl, tbx; zip, uzp, trn; ext; dup, ins, umov, smov; mov; movi and its kin; rev */
    {0xbfe08c00, 0x0e000000, PERMUTE},
    {0xbf208c00, 0x0e000800, PERMUTE},
    {0xbfe08400, 0x2e000000, PERMUTE},
    {0x9fe08400, 0x0e000400, PERMUTE},
    {0xbfe0fc00, 0x0ea01c00, PERMUTE},
    {0x9ff80c00, 0x0f000400, PERMUTE},
    {0x9f3fec00, 0x0e200800, PERMUTE},
    {0x0e000000, 0x0e000000, SIMD},
};

/* Loads and stores: bit 26 is set for vectors; what bits 22 and 23 say depends on the group. */
static enum class transfer(uint32_t code)
{
    const int is_vector = code >> 26 & 1, bits = code >> 22 & 3;
    int is_load = bits & 1, is_several = 0;
    if ((code & 0x3b000000) == 0x18000000) { /* from a place near the program counter */
        is_load = 1;
    } else if ((code & 0x3a000000) == 0x28000000) { /* pairs */
        is_several = 1;
    } else if ((code & 0xbf000000) == 0x0c000000) { /* ld1 to ld4 of whole registers */
        is_several = (code >> 12 & 15) != 7;
    } else if ((code & 0x3a000000) == 0x38000000 && !is_vector) { /* one register; loads that extend its sign */
        is_load = bits != 0;
    }
    if (is_vector)
        return !is_load ? VECTOR_STORE : is_several ? VECTOR_LOADS : VECTOR_LOAD;
    return is_load ? LOAD : STORE;
}

static enum class class_of(uint32_t code)
{
    if ((code & 0x0a000000) == 0x08000000)
        return transfer(code);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if ((code & rules[i].mask) == rules[i].value)
            return rules[i].class;
    return INTEGER;
}

struct block {
    struct block *next;
    uint64_t address, executed;
    uint32_t instructions, of[CLASSES];
};

static struct block *blocks;
static FILE *out, *out_blocks;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    struct block *b = calloc(1, sizeof *b);
    if (!b)
        abort();
    b->address = qemu_plugin_tb_vaddr(tb);
    b->instructions = (uint32_t)qemu_plugin_tb_n_insns(tb);
    for (uint32_t i = 0; i < b->instructions; i++) {
        uint32_t code;
        memcpy(&code, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof code);
        b->of[class_of(code)]++;
    }
    b->next = blocks;
    blocks = b;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &b->executed, 1);
}

static void write_counts(void)
{
    uint64_t counts[CLASSES] = {0};
    for (const struct block *b = blocks; b; b = b->next)
        for (int i = 0; i < CLASSES; i++)
            counts[i] += b->executed * b->of[i];
    for (int i = 0; i < CLASSES; i++)
        fprintf(out, "%s\"%s\": %" PRIu64, i ? ", " : "{", names[i], counts[i]);
    fprintf(out, "}\n");
    fflush(out);
}

static void called(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)cpu, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == SYSCALL_CLOSE && (int32_t)a == MARK)
        write_counts();
}

static void ended(qemu_plugin_id_t id, void *data)
{
    (void)id, (void)data;
    write_counts();
    for (const struct block *b = blocks; b && out_blocks; b = b->next)
        if (b->executed)
            fprintf(out_blocks, "%" PRIu64 " %" PRIu32 " %" PRIu64 "\n", b->address, b->instructions, b->executed);
    if (out_blocks)
        fclose(out_blocks);
    fclose(out);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4))
            out = fopen(argv[i] + 4, "w");
        else if (!strncmp(argv[i], "blocks=", 7))
            out_blocks = fopen(argv[i] + 7, "w");
    }
    if (!out)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
