// three layers: 3 dispatches of 3 kernels, fp16.
// Made from the same plan as plan.json: layout and dispatches are the same numbers there. Compile with -fobjc-arc.

#import "Model.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

typedef enum { PlaceInput, PlaceOutput, PlaceHeap, PlaceWeights } Place;

/// Where a tensor lives: in one of the caller's buffers, which `slot` counts, in the arena, or among the weights.
typedef struct {
    Place place;
    NSUInteger slot, offset, nbytes;
} Value;

/// A buffer of a kernel: a value, and the bytes of it that are skipped.
typedef struct {
    NSUInteger value, offset;
} Argument;

/// A grid of threadgroups, and what the kernel is given: buffers from index 0 on, then `numbers`, the bits of 32-bit
/// scalars, and lengths of threadgroup memory. With `barrier` it waits for all before it.
typedef struct {
    const char *kernel;
    MTLSize grid, threads;
    NSUInteger buffersCount;
    Argument buffers[4];
    NSUInteger numbersCount;
    uint32_t numbers[4];
    NSUInteger memoryCount;
    NSUInteger memory[2];
    bool barrier;
} Dispatch;

enum {
    input_image,
    heap_conv,
    weights_conv_weight,
    weights_conv_bias,
    output_scores,
    output_kept,
    output_kept_sizes,
};

static const Value values[] = {
    // input_image: f32[1,3,16,16]
    {PlaceInput, 0, 0, 3072},
    // heap_conv: f16[1,8,16,16], channels last
    {PlaceHeap, 0, 256, 2048},
    // weights_conv_weight: f16[8,3,3,3]
    {PlaceWeights, 0, 0, 432},
    // weights_conv_bias: f16[8]
    {PlaceWeights, 0, 512, 16},
    // output_scores: f32[1,8]
    {PlaceOutput, 0, 0, 32},
    // output_kept: s64[2,8]
    {PlaceOutput, 1, 0, 128},
    // output_kept_sizes: s64[2]
    {PlaceOutput, 2, 0, 16},
};

static const Dispatch dispatches[] = {
    // 0. Conv_0, Relu_1: 3x3 convolution, 3 to 8 channels
    // m = 256, n = 8, first = -1, least = 0.0
    {"conv_64x32", {4, 1, 1}, {128, 1, 1}, 4, {{input_image, 0}, {weights_conv_weight, 0}, {weights_conv_bias, 0},
        {heap_conv, 0}}, 4, {256, 8, 0xffffffff, 0}, 2, {2048, 1024}, false},
    // 1. GlobalAveragePool_2: mean over 256 rows
    // scale = 0.00390625
    {"mean_columns", {1, 8, 1}, {32, 1, 1}, 2, {{heap_conv, 16}, {output_scores, 0}}, 1, {0x3b800000}, 0, {}, true},
    // 2. NonZero_3: places of what is not 0
    {"nonzero", {1, 1, 1}, {32, 1, 1}, 3, {{output_scores, 0}, {output_kept, 0}, {output_kept_sizes, 0}}, 0, {}, 0, {},
        true},
};

static const NSUInteger dispatchesCount = 3;

static BOOL fail(NSError **error, NSString *text) {
    if (error != NULL) {
        *error = [NSError errorWithDomain:@"ThreeLayers" code:1 userInfo:@{NSLocalizedDescriptionKey : text}];
    }
    return NO;
}

@implementation ThreeLayersPort

- (instancetype)initWithName:(NSString *)name
                        type:(NSString *)type
                       shape:(NSArray<NSNumber *> *)shape
                      stride:(NSUInteger)stride
                      nbytes:(NSUInteger)nbytes
                       sizes:(NSInteger)sizes {
    self = [super init];
    if (self != nil) {
        _name = [name copy];
        _type = [type copy];
        _shape = [shape copy];
        _stride = stride;
        _nbytes = nbytes;
        _sizes = sizes;
    }
    return self;
}

@end

static ThreeLayersPort *port(
    NSString *name, NSString *type, NSArray<NSNumber *> *shape, NSUInteger stride, NSUInteger nbytes, NSInteger sizes) {
    ThreeLayersPort *made = [ThreeLayersPort alloc];
    return [made initWithName:name type:type shape:shape stride:stride nbytes:nbytes sizes:sizes];
}

@implementation ThreeLayers {
    id<MTLDevice> _device;
    id<MTLCommandQueue> _queue;
    NSArray<id<MTLComputePipelineState>> *_pipelines;  // one for each dispatch
    id<MTLBuffer> _arena;
    id<MTLBuffer> _weights;
}

+ (NSArray<ThreeLayersPort *> *)inputs {
    static NSArray<ThreeLayersPort *> *const made = @[
        port(@"image", @"float", @[ @1, @3, @16, @16 ], 4, 3072, NSNotFound),
    ];
    return made;
}

+ (NSArray<ThreeLayersPort *> *)outputs {
    static NSArray<ThreeLayersPort *> *const made = @[
        port(@"scores", @"float", @[ @1, @8 ], 4, 32, NSNotFound),
        port(@"kept", @"long", @[ @2, @8 ], 8, 128, 2),
        port(@"sizes of kept", @"long", @[ @2 ], 8, 16, NSNotFound),
    ];
    return made;
}

- (nullable instancetype)initWithDevice:(id<MTLDevice>)device
                                 folder:(NSURL *)folder
                                library:(nullable id<MTLLibrary>)library
                                  error:(NSError **)error {
    self = [super init];
    if (self == nil) {
        return nil;
    }
    _device = device;
    if (![device supportsFamily:(MTLGPUFamily)1007]) {
        NSString *text = @"%@ lacks what the kernels were made for: GPU family Apple 7";
        fail(error, [NSString stringWithFormat:text, device.name]);
        return nil;
    }
    _queue = [device newCommandQueue];
    if (_queue == nil) {
        fail(error, [NSString stringWithFormat:@"%@ makes no command queue", device.name]);
        return nil;
    }
    if (library == nil) {
        library = [self libraryFrom:folder error:error];
    }
    if (library == nil || ![self makePipelinesFrom:library error:error]) {
        return nil;
    }
    _arena = [device newBufferWithLength:4096 options:MTLResourceStorageModePrivate];
    if (_arena == nil) {
        fail(error, @"no memory for an arena of 4096 bytes");
        return nil;
    }
    _arena.label = @"ThreeLayers arena";
    if (![self mapWeights:[folder URLByAppendingPathComponent:@"weights.bin"] error:error]) {
        return nil;
    }
    return self;
}

- (nullable id<MTLLibrary>)libraryFrom:(NSURL *)folder error:(NSError **)error {
    NSURL *compiled = [folder URLByAppendingPathComponent:@"model.metallib"];
    if ([NSFileManager.defaultManager fileExistsAtPath:compiled.path]) {
        return [_device newLibraryWithURL:compiled error:error];
    }
    NSString *source = [NSString stringWithContentsOfURL:[folder URLByAppendingPathComponent:@"model.metal"]
                                                encoding:NSUTF8StringEncoding
                                                   error:error];
    if (source == nil) {
        return nil;
    }
    MTLCompileOptions *options = [[MTLCompileOptions alloc] init];
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
    options.fastMathEnabled = NO;  // infinities and NaN are numbers like others here
#pragma clang diagnostic pop
    return [_device newLibraryWithSource:source options:options error:error];
}

- (BOOL)makePipelinesFrom:(id<MTLLibrary>)library error:(NSError **)error {
    NSMutableDictionary<NSString *, id<MTLComputePipelineState>> *made = [NSMutableDictionary dictionary];
    NSMutableArray<id<MTLComputePipelineState>> *pipelines = [NSMutableArray arrayWithCapacity:dispatchesCount];
    for (NSUInteger index = 0; index < dispatchesCount; ++index) {
        const Dispatch *dispatch = &dispatches[index];
        NSString *kernel = @(dispatch->kernel);
        id<MTLComputePipelineState> pipeline = made[kernel];
        if (pipeline == nil) {
            id<MTLFunction> function = [library newFunctionWithName:kernel];
            if (function == nil) {
                return fail(error, [NSString stringWithFormat:@"the library has no kernel %@", kernel]);
            }
            pipeline = [_device newComputePipelineStateWithFunction:function error:error];
            if (pipeline == nil) {
                return NO;
            }
            made[kernel] = pipeline;
        }
        NSUInteger threads = dispatch->threads.width * dispatch->threads.height * dispatch->threads.depth;
        NSUInteger memory = pipeline.staticThreadgroupMemoryLength;
        for (NSUInteger i = 0; i < dispatch->memoryCount; ++i) {
            memory += dispatch->memory[i];
        }
        if (threads > pipeline.maxTotalThreadsPerThreadgroup || memory > _device.maxThreadgroupMemoryLength) {
            return fail(error, [NSString stringWithFormat:@"%@ cannot run %@: %lu threads, %lu bytes", _device.name,
                                                          kernel, (unsigned long)threads, (unsigned long)memory]);
        }
        [pipelines addObject:pipeline];
    }
    _pipelines = [pipelines copy];
    return YES;
}

/// The file itself as a buffer: pages come in when a kernel reads them, and can go again.
- (BOOL)mapWeights:(NSURL *)url error:(NSError **)error {
    const NSUInteger nbytes = 16384;
    int file = open(url.fileSystemRepresentation, O_RDONLY);
    if (file < 0) {
        return fail(error, [NSString stringWithFormat:@"%@ cannot be opened", url.path]);
    }
    if (lseek(file, 0, SEEK_END) != (off_t)nbytes) {
        close(file);
        return fail(error, [NSString stringWithFormat:@"%@ is not of %lu bytes: it belongs to another model", url.path,
                                                      (unsigned long)nbytes]);
    }
    void *pages = mmap(NULL, nbytes, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (pages == MAP_FAILED) {
        return fail(error, [NSString stringWithFormat:@"%@ cannot be mapped", url.path]);
    }
    _weights = [_device newBufferWithBytesNoCopy:pages
                                          length:nbytes
                                         options:MTLResourceStorageModeShared
                                     deallocator:^(void *start, NSUInteger length) {
                                         munmap(start, length);
                                     }];
    if (_weights == nil) {
        munmap(pages, nbytes);
        return fail(error, [NSString stringWithFormat:@"%@ takes no buffer of %lu bytes that are mapped", _device.name,
                                                      (unsigned long)nbytes]);
    }
    _weights.label = @"ThreeLayers weights";
    return YES;
}

- (nullable NSArray<id<MTLBuffer>> *)makeInputs {
    return [self makeBuffersFor:ThreeLayers.inputs];
}

- (nullable NSArray<id<MTLBuffer>> *)makeOutputs {
    return [self makeBuffersFor:ThreeLayers.outputs];
}

- (nullable NSArray<id<MTLBuffer>> *)makeBuffersFor:(NSArray<ThreeLayersPort *> *)ports {
    NSMutableArray<id<MTLBuffer>> *made = [NSMutableArray arrayWithCapacity:ports.count];
    for (ThreeLayersPort *port in ports) {
        id<MTLBuffer> buffer = [_device newBufferWithLength:MAX(port.nbytes, (NSUInteger)1)
                                                    options:MTLResourceStorageModeShared];
        if (buffer == nil) {
            return nil;
        }
        buffer.label = port.name;
        [made addObject:buffer];
    }
    return made;
}

static BOOL check(NSArray<id<MTLBuffer>> *buffers, NSArray<ThreeLayersPort *> *ports, NSError **error) {
    if (buffers.count != ports.count) {
        return fail(error, [NSString stringWithFormat:@"%lu buffers where there are to be %lu",
                                                      (unsigned long)buffers.count, (unsigned long)ports.count]);
    }
    for (NSUInteger i = 0; i < ports.count; ++i) {
        if (buffers[i].length < ports[i].nbytes) {
            return fail(error, [NSString stringWithFormat:@"%@ takes %lu bytes, its buffer has %lu", ports[i].name,
                                                          (unsigned long)ports[i].nbytes,
                                                          (unsigned long)buffers[i].length]);
        }
    }
    return YES;
}

- (BOOL)encodeInto:(id<MTLCommandBuffer>)commands
            inputs:(NSArray<id<MTLBuffer>> *)inputs
           outputs:(NSArray<id<MTLBuffer>> *)outputs
             error:(NSError **)error {
    if (!check(inputs, ThreeLayers.inputs, error) || !check(outputs, ThreeLayers.outputs, error)) {
        return NO;
    }
    id<MTLComputeCommandEncoder> encoder =
        [commands computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
    if (encoder == nil) {
        return fail(error, @"the command buffer makes no compute encoder");
    }
    encoder.label = @"three layers";
    for (NSUInteger index = 0; index < dispatchesCount; ++index) {
        const Dispatch *dispatch = &dispatches[index];
        if (dispatch->barrier) {
            [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
        }
        [encoder setComputePipelineState:_pipelines[index]];
        for (NSUInteger i = 0; i < dispatch->buffersCount; ++i) {
            const Value *value = &values[dispatch->buffers[i].value];
            id<MTLBuffer> buffer = nil;
            switch (value->place) {
                case PlaceInput: buffer = inputs[value->slot]; break;
                case PlaceOutput: buffer = outputs[value->slot]; break;
                case PlaceHeap: buffer = _arena; break;
                case PlaceWeights: buffer = _weights; break;
            }
            [encoder setBuffer:buffer offset:value->offset + dispatch->buffers[i].offset atIndex:i];
        }
        if (dispatch->numbersCount > 0) {
            [encoder setBytes:dispatch->numbers
                       length:dispatch->numbersCount * sizeof(dispatch->numbers[0])
                      atIndex:dispatch->buffersCount];
        }
        for (NSUInteger i = 0; i < dispatch->memoryCount; ++i) {
            [encoder setThreadgroupMemoryLength:dispatch->memory[i] atIndex:i];
        }
        [encoder dispatchThreadgroups:dispatch->grid threadsPerThreadgroup:dispatch->threads];
    }
    [encoder endEncoding];
    return YES;
}

- (void)runWithInputs:(NSArray<id<MTLBuffer>> *)inputs
              outputs:(NSArray<id<MTLBuffer>> *)outputs
           completion:(void (^)(NSTimeInterval seconds, NSError *error))completion {
    NSError *error = nil;
    id<MTLCommandBuffer> commands = [_queue commandBuffer];
    if (commands == nil) {
        fail(&error, @"the command queue makes no command buffer");
        completion(0, error);
        return;
    }
    if (![self encodeInto:commands inputs:inputs outputs:outputs error:&error]) {
        completion(0, error);
        return;
    }
    [commands addCompletedHandler:^(id<MTLCommandBuffer> finished) {
        completion(finished.GPUEndTime - finished.GPUStartTime, finished.error);
    }];
    [commands commit];
}

@end
