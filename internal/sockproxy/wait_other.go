//go:build !unix

package sockproxy

// receive reads src until it ends, holding a small buffer while idle.
func (f *flow) receive() error { return f.receiveHolding() }
