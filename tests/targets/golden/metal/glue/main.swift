// Runs three layers and times it: run [FOLDER] [INPUT ...] [--repeats N] [--save FOLDER]
// FOLDER has model.metallib or model.metal. Each INPUT is a file of raw bytes, in the order of the inputs; without
// files the inputs are random. With --save every result goes to a file of raw bytes: 0.bin, 1.bin and so on.

import Foundation
import Metal

struct Settings {
    var folder = URL(fileURLWithPath: FileManager.default.currentDirectoryPath)
    var files: [URL] = []
    var save: URL?
    var repeats = 20

    init(_ words: [String]) throws {
        var plain: [URL] = []
        var rest = words[...]
        while let word = rest.popFirst() {
            switch word {
            case "--repeats":
                guard let count = rest.popFirst().flatMap({ Int($0) }), count > 0 else {
                    throw ThreeLayers.Failure("--repeats takes a number above 0")
                }
                repeats = count
            case "--save":
                guard let path = rest.popFirst() else {
                    throw ThreeLayers.Failure("--save takes a folder")
                }
                save = URL(fileURLWithPath: path)
            default:
                plain.append(URL(fileURLWithPath: word))
            }
        }
        if let first = plain.first {
            folder = first
            files = Array(plain.dropFirst())
        }
    }
}

func read(_ file: URL, into buffer: MTLBuffer, for port: ThreeLayers.Port) throws {
    let content = try Data(contentsOf: file)
    guard content.count == port.nbytes else {
        throw ThreeLayers.Failure("\(file.path) has \(content.count) bytes, \(port.name) takes \(port.nbytes)")
    }
    content.withUnsafeBytes { bytes in
        if let start = bytes.baseAddress {
            buffer.contents().copyMemory(from: start, byteCount: bytes.count)
        }
    }
}

/// Floats from 0.5 to 1, by their bits; 0 or 1 for all other types, so that indices are in range.
func randomise(_ buffer: MTLBuffer, for port: ThreeLayers.Port) {
    let bytes = UnsafeMutableRawBufferPointer(start: buffer.contents(), count: port.nbytes)
    var state: UInt64 = 0x9E37_79B9_7F4A_7C15  // xorshift: the same numbers in every run
    for at in stride(from: 0, to: port.nbytes, by: port.stride) {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        switch port.type {
        case "float": bytes.storeBytes(of: 0x3f00_0000 | UInt32(state & 0x7f_ffff), toByteOffset: at, as: UInt32.self)
        case "half": bytes.storeBytes(of: 0x3800 | UInt16(state & 0x3ff), toByteOffset: at, as: UInt16.self)
        case "bfloat": bytes.storeBytes(of: 0x3f00 | UInt16(state & 0x7f), toByteOffset: at, as: UInt16.self)
        default:
            for byte in at..<(at + port.stride) {
                bytes[byte] = 0
            }
            bytes[at] = UInt8(state & 1)
        }
    }
}

let settings = try Settings(Array(CommandLine.arguments.dropFirst()))
guard let device = MTLCreateSystemDefaultDevice() else {
    throw ThreeLayers.Failure("this machine has no GPU for Metal")
}
let model = try ThreeLayers(device: device, folder: settings.folder)
let inputs = try model.makeInputs()
let outputs = try model.makeOutputs()
guard settings.files.isEmpty || settings.files.count == inputs.count else {
    throw ThreeLayers.Failure("\(settings.files.count) files for \(inputs.count) inputs")
}
for (index, port) in ThreeLayers.inputs.enumerated() {
    if settings.files.isEmpty {
        randomise(inputs[index], for: port)
    } else {
        try read(settings.files[index], into: inputs[index], for: port)
    }
}

try await model.run(inputs: inputs, outputs: outputs)  // pages of weights come in, clocks go up
if let folder = settings.save {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    for (index, port) in ThreeLayers.outputs.enumerated() {
        let content = Data(bytes: outputs[index].contents(), count: port.nbytes)
        try content.write(to: folder.appendingPathComponent("\(index).bin"))
    }
}

var seconds: [TimeInterval] = []
for _ in 0..<settings.repeats {
    seconds.append(try await model.run(inputs: inputs, outputs: outputs))
}
seconds.sort()
let times = [seconds[seconds.count / 2], seconds[0]].map { String(format: "%.3f ms", $0 * 1e3) }
print("\(device.name): median \(times[0]), minimum \(times[1]) on the GPU, of \(settings.repeats) runs")
