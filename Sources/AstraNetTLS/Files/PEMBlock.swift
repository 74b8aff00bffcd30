internal import FoundationEssentials

/// One block of a PEM file (RFC 7468), for example a certificate.
struct PEMBlock: Hashable, Sendable {
    /// The label, such as `CERTIFICATE`.
    var label: String
    /// The line of `-----BEGIN`, from 1.
    var line: Int
    /// Whether the block has headers, which only encrypted keys have (RFC 1421 §4.6).
    var hasHeaders: Bool
    /// The decoded bytes.
    var bytes: [UInt8]

    /// Returns all blocks of a file. Text around blocks is ignored.
    ///
    /// - Parameters:
    ///   - text: the content of the file.
    ///   - file: the path, for errors.
    static func blocks(in text: [UInt8], file: String) throws(TLSFileError) -> [PEMBlock] {
        var blocks: [PEMBlock] = []
        var open: (label: String, line: Int, hasHeaders: Bool, base64: [UInt8])?
        var number = 0
        for line in text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            let line = line.trimmingSpace
            if let label = line.label(after: "-----BEGIN ") {
                if let open { throw unfinished(open.label, file, open.line) }
                open = (label, number, false, [])
            } else if let label = line.label(after: "-----END ") {
                guard let block = open, block.label == label else {
                    throw TLSFileError(
                        file: file, line: number, problem: "'-----END \(label)-----' does not end a block",
                        remedy: "copy the file again from its source")
                }
                guard let data = Data(base64Encoded: Data(block.base64)), !data.isEmpty else {
                    throw notBase64(block.label, file, block.line)
                }
                blocks.append(
                    PEMBlock(label: label, line: block.line, hasHeaders: block.hasHeaders, bytes: Array(data)))
                open = nil
            } else if let block = open {
                if block.base64.isEmpty, line.contains(UInt8(ascii: ":")) {
                    open?.hasHeaders = true
                } else if line.allSatisfy(\.isBase64) {
                    open?.base64 += line
                } else if block.hasHeaders, block.base64.isEmpty {
                    // The continuation of a header.
                    continue
                } else {
                    throw notBase64(block.label, file, number)
                }
            }
        }
        if let open { throw unfinished(open.label, file, open.line) }
        return blocks
    }

    private static func unfinished(_ label: String, _ file: String, _ line: Int) -> TLSFileError {
        TLSFileError(
            file: file, line: line, problem: "'-----BEGIN \(label)-----' has no end",
            remedy: "the file is cut off: copy it again from its source")
    }

    private static func notBase64(_ label: String, _ file: String, _ line: Int) -> TLSFileError {
        TLSFileError(
            file: file, line: line, problem: "the block '\(label)' is not valid base64",
            remedy: "copy the file again from its source")
    }
}

extension ArraySlice<UInt8> {
    /// The line without white space at its ends, also without the CR of a CRLF.
    fileprivate var trimmingSpace: ArraySlice<UInt8> {
        let isSpace: (UInt8) -> Bool = { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") || $0 == 0x0D }
        let rest = drop(while: isSpace)
        return rest.prefix((rest.lastIndex { !isSpace($0) } ?? rest.startIndex - 1) - rest.startIndex + 1)
    }

    /// Returns the label of a BEGIN or END line.
    fileprivate func label(after prefix: String) -> String? {
        guard starts(with: prefix.utf8), suffix(5).elementsEqual("-----".utf8), count >= prefix.utf8.count + 5 else {
            return nil
        }
        let label = dropFirst(prefix.utf8.count).dropLast(5)
        // The label is printed. A whole key on one line must not be taken for one.
        let isLabel = label.count <= 64 && label.allSatisfy { $0.isUppercaseOrDigit || $0 == UInt8(ascii: " ") }
        return isLabel ? String(decoding: label, as: UTF8.self) : nil
    }
}

extension UInt8 {
    fileprivate var isUppercaseOrDigit: Bool {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(self) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self)
    }

    fileprivate var isBase64: Bool {
        switch self {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "="):
            true
        default: false
        }
    }
}
