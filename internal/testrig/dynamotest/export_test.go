package dynamotest

// Isolated is an engine of its own, in a process that Main has isolated.
func Isolated() *Engine { return &Engine{isolated: true} }

// Stop ends the engine.
func (e *Engine) Stop() { e.stop() }
