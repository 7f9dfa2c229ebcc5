// Command engine builds the Pulumi engine that the tests run on, if it is not in the user's
// cache yet, and says where it is. The tests do so themselves; make twin does it ahead, where
// the minutes that it takes count against no test.
package main

import (
	"fmt"
	"os"

	"github.com/bulkhead-dev/bulkhead/tests/twin/engine"
)

func main() {
	dir, err := engine.Tools()
	if err != nil {
		fmt.Fprintln(os.Stderr, "engine: "+err.Error())
		os.Exit(1)
	}
	fmt.Println("the engine is in " + dir)
}
