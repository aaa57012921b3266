// The part of Foundation that generated Objective-C++ uses: declarations alone, for the compiler's type check.
#pragma once
typedef signed char int8_t;
typedef unsigned int uint32_t;
typedef bool BOOL;
typedef long NSInteger;
typedef unsigned long NSUInteger;
typedef double NSTimeInterval;
typedef long long off_t;
typedef unsigned long size_t;
#define YES true
#define NO false
#define NULL 0
#define nil nullptr
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define NS_UNAVAILABLE __attribute__((unavailable))
#define NS_DESIGNATED_INITIALIZER __attribute__((objc_designated_initializer))
#define NSNotFound __LONG_MAX__

#pragma clang assume_nonnull begin
__attribute__((objc_root_class)) @interface NSObject
+ (instancetype)alloc;
- (instancetype)init;
@end
@protocol NSObject
@end
@protocol NSCopying
@end
typedef struct {
    unsigned long state;
    id __unsafe_unretained _Nullable *_Nullable itemsPtr;
    unsigned long *_Nullable mutationsPtr;
    unsigned long extra[5];
} NSFastEnumerationState;
@interface NSNumber : NSObject
+ (NSNumber *)numberWithInt:(int)value;
+ (NSNumber *)numberWithLong:(long)value;
+ (NSNumber *)numberWithUnsignedLong:(unsigned long)value;
@end
@interface NSString : NSObject <NSCopying>
+ (nullable instancetype)stringWithUTF8String:(const char *)text;
+ (instancetype)stringWithFormat:(NSString *)format, ... __attribute__((format(__NSString__, 1, 2)));
+ (nullable instancetype)stringWithContentsOfURL:(id)url encoding:(NSUInteger)encoding error:(id _Nullable __autoreleasing *_Nullable)error;
- (NSString *)copy __attribute__((ns_returns_retained));
@end
#define NSUTF8StringEncoding 4
@interface NSArray<__covariant T> : NSObject
@property(readonly) NSUInteger count;
+ (instancetype)arrayWithObjects:(const T _Nonnull [_Nullable])objects count:(NSUInteger)count;
- (T)objectAtIndexedSubscript:(NSUInteger)index;
- (NSArray<T> *)copy __attribute__((ns_returns_retained));
- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState *)state
                                  objects:(id __unsafe_unretained _Nullable [_Nonnull])buffer
                                    count:(NSUInteger)count;
@end
@interface NSMutableArray<T> : NSArray <T>
+ (instancetype)arrayWithCapacity:(NSUInteger)capacity;
- (void)addObject:(T)object;
@end
@interface NSDictionary<__covariant K, __covariant V> : NSObject
+ (instancetype)dictionaryWithObjects:(const V _Nonnull [_Nullable])objects
                              forKeys:(const K _Nonnull [_Nullable])keys
                                count:(NSUInteger)count;
- (nullable V)objectForKeyedSubscript:(K)key;
@end
@interface NSMutableDictionary<K, V> : NSDictionary <K, V>
+ (instancetype)dictionary;
- (void)setObject:(nullable V)object forKeyedSubscript:(K)key;
@end
@interface NSError : NSObject
+ (instancetype)errorWithDomain:(NSString *)domain code:(NSInteger)code userInfo:(nullable NSDictionary<NSString *, id> *)info;
@end
extern NSString *const NSLocalizedDescriptionKey;
@interface NSURL : NSObject
@property(readonly) const char *fileSystemRepresentation;
@property(nullable, readonly) NSString *path;
- (nullable NSURL *)URLByAppendingPathComponent:(NSString *)part;
@end
@interface NSFileManager : NSObject
@property(class, readonly) NSFileManager *defaultManager;
- (BOOL)fileExistsAtPath:(NSString *)path;
@end
#pragma clang assume_nonnull end
