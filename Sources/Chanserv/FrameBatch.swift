/// Frames on their way out.
public struct FrameBatch {
    var isFull: Bool { false }
}
