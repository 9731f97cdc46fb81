package ministack

// Required tells whether a missing engine is a failure.
func Required() bool { return required() }
