package server_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		flags := []string{"test.run", "test.skip", "test.list", "test.fuzz"}
		whole := true
		for _, name := range flags {
			whole = whole && flag.Lookup(name).Value.String() == ""
		}
		if api, err := described(); code == 0 && whole {
			if err == nil {
				err = api.unseen()
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "FAIL:", err)
				code = 1
			}
		}
		os.Exit(code)
	}))
}
