// three layers: 3 dispatches of 3 kernels, fp16.
// Made from the same plan as plan.json: layout and dispatches are the same numbers there.

import Foundation
import Metal

/// Runs the network on a GPU. Everything that costs time is done once, in `init`; a run makes no more than an encoder.
///
/// One object has one arena for what lives between its dispatches. Metal tracks it, so runs that are under way at once
/// are correct, one after another; for runs that overlap, make an object for each.
public final class ThreeLayers: @unchecked Sendable {  // all that is stored is constant
    /// A buffer that the caller gives: dense, the last axis of `shape` fastest, elements of a type of Metal.
    public struct Port: Sendable {
        public let name: String
        public let type: String
        public let shape: [Int]
        /// Bytes of an element.
        public let stride: Int
        public let nbytes: Int
        /// If the data decide how much is written: which result has the lengths of the axes, as Int64. `shape` is then
        /// the most that there can be.
        public let sizes: Int?

        init(name: String, type: String, shape: [Int], stride: Int, nbytes: Int, sizes: Int? = nil) {
            self.name = name
            self.type = type
            self.shape = shape
            self.stride = stride
            self.nbytes = nbytes
            self.sizes = sizes
        }
    }

    /// What went wrong, for people.
    public struct Failure: LocalizedError {
        public let errorDescription: String?

        init(_ text: String) {
            errorDescription = text
        }
    }

    public static let name = "three layers"

    public static let inputs: [Port] = [
        Port(name: "image", type: "float", shape: [1, 3, 16, 16], stride: 4, nbytes: 3072),
    ]

    public static let outputs: [Port] = [
        Port(name: "scores", type: "float", shape: [1, 8], stride: 4, nbytes: 32),
        Port(name: "kept", type: "long", shape: [2, 8], stride: 8, nbytes: 128, sizes: 2),
        Port(name: "sizes of kept", type: "long", shape: [2], stride: 8, nbytes: 16),
    ]

    public let device: MTLDevice
    private let queue: MTLCommandQueue
    private let dispatches: [Launch]
    private let pipelines: [MTLComputePipelineState]  // one for each dispatch
    private let arena: MTLBuffer
    private let weights: MTLBuffer

    /// The kernels come from `library`, or from model.metallib in `folder`, or from model.metal there, which is then
    /// compiled. Weights are mapped, not read.
    public init(device: MTLDevice, folder: URL, library: MTLLibrary? = nil) throws {
        guard let family = MTLGPUFamily(rawValue: 1007), device.supportsFamily(family) else {
            throw Failure("\(device.name) lacks what the kernels were made for: GPU family Apple 7")
        }
        guard let queue = device.makeCommandQueue() else {
            throw Failure("\(device.name) makes no command queue")
        }
        self.device = device
        self.queue = queue
        let kernels = try library ?? ThreeLayers.makeLibrary(device, folder)
        let launches = schedule()
        pipelines = try ThreeLayers.makePipelines(of: launches, from: kernels, on: device)
        dispatches = launches
        guard let arena = device.makeBuffer(length: 4096, options: .storageModePrivate) else {
            throw Failure("no memory for an arena of 4096 bytes")
        }
        arena.label = "ThreeLayers arena"
        self.arena = arena
        weights = try ThreeLayers.mapWeights(folder.appendingPathComponent("weights.bin"), on: device)
        weights.label = "ThreeLayers weights"
    }

    /// Buffers of the right lengths for a run, which CPU and GPU share.
    public func makeInputs() throws -> [MTLBuffer] {
        try Self.inputs.map(makeBuffer)
    }

    public func makeOutputs() throws -> [MTLBuffer] {
        try Self.outputs.map(makeBuffer)
    }

    private func makeBuffer(for port: Port) throws -> MTLBuffer {
        guard let made = device.makeBuffer(length: max(port.nbytes, 1), options: .storageModeShared) else {
            throw Failure("no memory for \(port.name): \(port.nbytes) bytes")
        }
        made.label = port.name
        return made
    }

    /// Appends the whole network to `commands`: one encoder, whose dispatches run at once up to the next barrier.
    public func encode(into commands: MTLCommandBuffer, inputs: [MTLBuffer], outputs: [MTLBuffer]) throws {
        try Self.check(inputs, against: Self.inputs)
        try Self.check(outputs, against: Self.outputs)
        guard let encoder = commands.makeComputeCommandEncoder(dispatchType: .concurrent) else {
            throw Failure("the command buffer makes no compute encoder")
        }
        encoder.label = Self.name
        for (dispatch, pipeline) in zip(dispatches, pipelines) {
            if dispatch.barrier {
                encoder.memoryBarrier(scope: .buffers)
            }
            encoder.setComputePipelineState(pipeline)
            for (index, value) in dispatch.buffers.enumerated() {
                switch value.place {
                case .input(let slot): encoder.setBuffer(inputs[slot], offset: value.offset, index: index)
                case .output(let slot): encoder.setBuffer(outputs[slot], offset: value.offset, index: index)
                case .heap: encoder.setBuffer(arena, offset: value.offset, index: index)
                case .weights: encoder.setBuffer(weights, offset: value.offset, index: index)
                }
            }
            dispatch.numbers.withUnsafeBytes { numbers in
                if let bytes = numbers.baseAddress, !numbers.isEmpty {
                    encoder.setBytes(bytes, length: numbers.count, index: dispatch.buffers.count)
                }
            }
            for (index, nbytes) in dispatch.memory.enumerated() {
                encoder.setThreadgroupMemoryLength(nbytes, index: index)
            }
            encoder.dispatchThreadgroups(dispatch.grid, threadsPerThreadgroup: dispatch.threads)
        }
        encoder.endEncoding()
    }

    /// Runs the network once. Returns the seconds that the GPU took.
    @discardableResult
    public func run(inputs: [MTLBuffer], outputs: [MTLBuffer]) async throws -> TimeInterval {
        guard let commands = queue.makeCommandBuffer() else {
            throw Failure("the command queue makes no command buffer")
        }
        try encode(into: commands, inputs: inputs, outputs: outputs)
        return try await withCheckedThrowingContinuation { (done: CheckedContinuation<TimeInterval, Error>) in
            commands.addCompletedHandler { finished in
                if let error = finished.error {
                    done.resume(throwing: error)
                } else {
                    done.resume(returning: finished.gpuEndTime - finished.gpuStartTime)
                }
            }
            commands.commit()
        }
    }

    private static func check(_ buffers: [MTLBuffer], against ports: [Port]) throws {
        guard buffers.count == ports.count else {
            throw Failure("\(buffers.count) buffers where there are to be \(ports.count)")
        }
        for (buffer, port) in zip(buffers, ports) where buffer.length < port.nbytes {
            throw Failure("\(port.name) takes \(port.nbytes) bytes, its buffer has \(buffer.length)")
        }
    }

    private static func makeLibrary(_ device: MTLDevice, _ folder: URL) throws -> MTLLibrary {
        let compiled = folder.appendingPathComponent("model.metallib")
        if FileManager.default.fileExists(atPath: compiled.path) {
            return try device.makeLibrary(URL: compiled)
        }
        let source = try String(contentsOf: folder.appendingPathComponent("model.metal"), encoding: .utf8)
        let options = MTLCompileOptions()
        // Infinities and NaN are numbers like others here.
        #if compiler(>=6.0)
        if #available(macOS 15, iOS 18, tvOS 18, visionOS 2, *) {
            options.mathMode = .safe
            options.mathFloatingPointFunctions = .precise
        } else {
            options.fastMathEnabled = false
        }
        #else
        options.fastMathEnabled = false
        #endif
        return try device.makeLibrary(source: source, options: options)
    }

    private static func makePipelines(
        of dispatches: [Launch], from library: MTLLibrary, on device: MTLDevice
    ) throws -> [MTLComputePipelineState] {
        var made: [String: MTLComputePipelineState] = [:]
        return try dispatches.map { dispatch in
            let pipeline: MTLComputePipelineState
            if let known = made[dispatch.kernel] {
                pipeline = known
            } else {
                guard let function = library.makeFunction(name: dispatch.kernel) else {
                    throw Failure("the library has no kernel \(dispatch.kernel)")
                }
                pipeline = try device.makeComputePipelineState(function: function)
                made[dispatch.kernel] = pipeline
            }
            let threads = dispatch.threads.width * dispatch.threads.height * dispatch.threads.depth
            let memory = dispatch.memory.reduce(pipeline.staticThreadgroupMemoryLength, +)
            guard threads <= pipeline.maxTotalThreadsPerThreadgroup, memory <= device.maxThreadgroupMemoryLength else {
                throw Failure("\(device.name) cannot run \(dispatch.kernel): \(threads) threads, \(memory) bytes")
            }
            return pipeline
        }
    }

    /// The file itself as a buffer: pages come in when a kernel reads them, and can go again.
    private static func mapWeights(_ url: URL, on device: MTLDevice) throws -> MTLBuffer {
        let file = open(url.path, O_RDONLY)
        guard file >= 0 else {
            throw Failure("\(url.path) cannot be opened")
        }
        defer { close(file) }
        let nbytes = 16384
        guard lseek(file, 0, SEEK_END) == off_t(nbytes) else {
            throw Failure("\(url.path) is not of \(nbytes) bytes: it belongs to another model")
        }
        guard let pages = mmap(nil, nbytes, PROT_READ, MAP_SHARED, file, 0), pages != MAP_FAILED else {
            throw Failure("\(url.path) cannot be mapped")
        }
        let buffer = device.makeBuffer(bytesNoCopy: pages, length: nbytes, options: .storageModeShared) {
            munmap($0, $1)
        }
        guard let mapped = buffer else {
            munmap(pages, nbytes)
            throw Failure("\(device.name) takes no buffer of \(nbytes) bytes that are mapped")
        }
        return mapped
    }
}

/// Where a tensor lives: in one of the caller's buffers, in the arena, among the weights.
private struct Value {
    enum Place {
        case input(Int)
        case output(Int)
        case heap
        case weights
    }

    let place: Place
    let offset: Int
    let nbytes: Int

    init(_ place: Place, offset: Int, nbytes: Int) {
        self.place = place
        self.offset = offset
        self.nbytes = nbytes
    }

    /// What is left of it after `skipped` bytes.
    func at(_ skipped: Int) -> Value {
        Value(place, offset: offset + skipped, nbytes: nbytes - skipped)
    }
}

extension Value {
    /// f32[1,3,16,16]
    static let image = Value(.input(0), offset: 0, nbytes: 3072)
    /// f16[1,8,16,16], channels last
    static let conv = Value(.heap, offset: 256, nbytes: 2048)
    /// f16[8,3,3,3]
    static let conv_weight = Value(.weights, offset: 0, nbytes: 432)
    /// f16[8]
    static let conv_bias = Value(.weights, offset: 512, nbytes: 16)
    /// f32[1,8]
    static let scores = Value(.output(0), offset: 0, nbytes: 32)
    /// s64[2,8]
    static let kept = Value(.output(1), offset: 0, nbytes: 128)
    /// s64[2]
    static let kept_sizes = Value(.output(2), offset: 0, nbytes: 16)
}

/// A grid of threadgroups, and what the kernel is given: `buffers` from index 0 on, then `numbers`, the bits of 32-bit
/// scalars, and lengths of threadgroup memory. With `barrier` it waits for all before it.
private struct Launch {
    let kernel: String
    let grid: MTLSize
    let threads: MTLSize
    let buffers: [Value]
    let numbers: [UInt32]
    let memory: [Int]
    let barrier: Bool
}

private func schedule() -> [Launch] {
    var all: [Launch] = []
    all.reserveCapacity(3)

    func step(
        _ kernel: String, grid: (Int, Int, Int), threads: (Int, Int, Int), _ buffers: [Value], numbers: [UInt32] = [],
        memory: [Int] = [], barrier: Bool = false
    ) {
        all.append(
            Launch(
                kernel: kernel, grid: MTLSize(width: grid.0, height: grid.1, depth: grid.2),
                threads: MTLSize(width: threads.0, height: threads.1, depth: threads.2), buffers: buffers,
                numbers: numbers, memory: memory, barrier: barrier))
    }

    // 0. Conv_0, Relu_1: 3x3 convolution, 3 to 8 channels
    // m = 256, n = 8, first = -1, least = 0.0
    step("conv_64x32", grid: (4, 1, 1), threads: (128, 1, 1), [.image, .conv_weight, .conv_bias, .conv], numbers: [256,
        8, 0xffffffff, 0], memory: [2048, 1024])
    // 1. GlobalAveragePool_2: mean over 256 rows
    // scale = 0.00390625
    step("mean_columns", grid: (1, 8, 1), threads: (32, 1, 1), [.conv.at(16), .scores], numbers: [0x3b800000],
        barrier: true)
    // 2. NonZero_3: places of what is not 0
    step("nonzero", grid: (1, 1, 1), threads: (32, 1, 1), [.scores, .kept, .kept_sizes], barrier: true)
    return all
}
