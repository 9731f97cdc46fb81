package stack_test

import (
	"fmt"

	"github.com/zeroae/zael/stack"
)

// A wrong option is named, with its range and what to do, before anything is
// asked of AWS.
func ExampleOptions_Validate() {
	fmt.Println(stack.Options{}.Validate("ZAEL-demo"))
	fmt.Println(stack.Options{LambdaMemoryMB: 64}.Validate("ZAEL-demo"))
	// Output:
	// <nil>
	// zael: Options.LambdaMemoryMB 64 is not 128 to 3008 MB: use 0 for 256
}
