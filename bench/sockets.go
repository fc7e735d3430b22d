//go:build linux

package main

import "context"

func measureSockets(context.Context, *lab, plan, *report) error { return nil }
