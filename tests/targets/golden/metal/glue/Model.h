// three layers: 3 dispatches of 3 kernels, fp16.

#import <Foundation/Foundation.h>
#import <Metal/Metal.h>

#pragma clang assume_nonnull begin

/// A buffer that the caller gives: dense, the last axis of `shape` fastest, elements of a type of Metal.
@interface ThreeLayersPort : NSObject
@property(nonatomic, readonly, copy) NSString *name;
@property(nonatomic, readonly, copy) NSString *type;
@property(nonatomic, readonly, copy) NSArray<NSNumber *> *shape;
/// Bytes of an element.
@property(nonatomic, readonly) NSUInteger stride;
@property(nonatomic, readonly) NSUInteger nbytes;
/// If the data decide how much is written: which result has the lengths of the axes, as int64_t. `shape` is then the
/// most that there can be. NSNotFound for all others.
@property(nonatomic, readonly) NSInteger sizes;
- (instancetype)init NS_UNAVAILABLE;
@end

/// Runs the network on a GPU. Everything that costs time is done once, when it is made; a run makes no more than an
/// encoder.
///
/// One object has one arena for what lives between its dispatches. Metal tracks it, so runs that are under way at once
/// are correct, one after another; for runs that overlap, make an object for each.
@interface ThreeLayers : NSObject
@property(class, nonatomic, readonly, copy) NSArray<ThreeLayersPort *> *inputs;
@property(class, nonatomic, readonly, copy) NSArray<ThreeLayersPort *> *outputs;

/// The kernels come from `library`, or from model.metallib in `folder`, or from model.metal there, which is then
/// compiled. Weights are mapped, not read.
- (nullable instancetype)initWithDevice:(id<MTLDevice>)device
                                 folder:(NSURL *)folder
                                library:(nullable id<MTLLibrary>)library
                                  error:(NSError **)error NS_DESIGNATED_INITIALIZER;
- (instancetype)init NS_UNAVAILABLE;

/// Buffers of the right lengths for a run, which CPU and GPU share; nil if there is no memory.
- (nullable NSArray<id<MTLBuffer>> *)makeInputs;
- (nullable NSArray<id<MTLBuffer>> *)makeOutputs;

/// Appends the whole network to `commands`: one encoder, whose dispatches run at once up to the next barrier.
- (BOOL)encodeInto:(id<MTLCommandBuffer>)commands
            inputs:(NSArray<id<MTLBuffer>> *)inputs
           outputs:(NSArray<id<MTLBuffer>> *)outputs
             error:(NSError **)error;

/// Runs the network once; `completion` is called on a thread of Metal, with the seconds that the GPU took.
- (void)runWithInputs:(NSArray<id<MTLBuffer>> *)inputs
              outputs:(NSArray<id<MTLBuffer>> *)outputs
           completion:(void (^)(NSTimeInterval seconds, NSError *_Nullable error))completion;
@end

#pragma clang assume_nonnull end
