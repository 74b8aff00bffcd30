import TestSupport

typealias Chanserv = ChanservCommand
typealias ChildProcess = TestSupport.ChildProcess
