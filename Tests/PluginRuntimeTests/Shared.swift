import TestSupport

typealias CompiledPlugin = TestSupport.CompiledPlugin
typealias TestFolder = TestSupport.TestFolder
