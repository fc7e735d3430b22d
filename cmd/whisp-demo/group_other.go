//go:build !unix

package main

import "os/exec"

// ownGroup does nothing here: there are no process groups to put it into.
func ownGroup(*exec.Cmd) {}
