import AstraNet
import Testing

@Suite struct ShortQueueTests {
    @Test func `a queue behaves like an array in random operations`() {
        var queue = ShortQueue<Int>()
        var model: [Int] = []
        var random = SystemRandomNumberGenerator()
        for number in 0..<10_000 {
            switch Int.random(in: 0..<4, using: &random) {
            case 0:
                queue.append(number)
                model.append(number)
            case 1 where !model.isEmpty:
                queue.changeFirst { $0 += 1 }
                model[0] += 1
            case 2 where !model.isEmpty:
                queue.changeLast { $0 += 1 }
                model[model.count - 1] += 1
            default:
                let popped = queue.popFirst()
                let expected = model.isEmpty ? nil : model.removeFirst()
                #expect(popped == expected)
            }
            #expect(queue.count == model.count && queue.isEmpty == model.isEmpty)
            #expect(queue.first == model.first && queue.last == model.last)
        }
    }
}
