package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/identity"
)

// importResult is what became of one row: a line of the results file.
type importResult struct {
	Line    int    `json:"line"`
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`

	UserID   string `json:"userId,omitempty"`
	Username string `json:"username,omitempty"`
	// Created: this import made the account; else it was there.
	Created *bool `json:"created,omitempty"`

	// Error is a code of docs/errors.md, or row_invalid.
	Error string `json:"error,omitempty"`
	// Detail says more, for the operator; it may quote the row.
	Detail string `json:"detail,omitempty"`

	size int64 // of the row, for the progress
}

const (
	// resultBatch results are written and synced together, or those of
	// resultDelay if they are fewer.
	resultBatch = 64
	resultDelay = 250 * time.Millisecond
)

// resultLog is the results file. It is only ever appended to, whole lines at a
// time: killed at any moment, it has at most one torn line, at its end, which the
// next run cuts off. Rows whose results were not written yet are repeated then,
// which finds their accounts.
type resultLog struct {
	file *os.File
	// done are the identities that have an account according to the file.
	done doneSet
}

// openResults opens or creates the file and reads it. It refuses a file that is
// something else, and changes nothing in it.
func openResults(path string) (*resultLog, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	l := &resultLog{file: file}
	if err := l.read(); err != nil {
		_ = file.Close()
		return nil, err
	}
	return l, nil
}

// typicalResult is the size of a result in bytes, to make room for all at once: a
// slice that grows leaves its former selves behind.
const typicalResult = 160

func (l *resultLog) read() error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	l.done.keys = make([][15]byte, 0, info.Size()/typicalResult)
	in := bufio.NewReaderSize(l.file, 64<<10)
	whole := int64(0)
	for number := 1; ; number++ {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return l.cut(text, whole, number)
		}
		if err != nil {
			return err
		}
		var result importResult
		if json.Unmarshal(text, &result) != nil || result.Line == 0 {
			return fmt.Errorf("line %d is no result of an import: is it the right file?", number)
		}
		if result.UserID != "" {
			l.done.add(identity.Identity{Issuer: result.Issuer, Subject: result.Subject})
		}
		whole += int64(len(text))
	}
}

// cut drops the torn line of a run that was killed.
func (l *resultLog) cut(torn []byte, whole int64, number int) error {
	l.done.sort()
	if len(torn) == 0 {
		return nil
	}
	const start = `{"line":`
	if !bytes.HasPrefix(torn, []byte(start)) && !bytes.HasPrefix([]byte(start), torn) {
		return fmt.Errorf("line %d is no result of an import: is it the right file?", number)
	}
	return l.file.Truncate(whole)
}

// write takes results until there are no more, tells each that is on disk to
// written, and returns the first error; it goes on taking results then.
func (l *resultLog) write(results <-chan importResult, failed func(error)) error {
	ticker := time.NewTicker(resultDelay)
	defer ticker.Stop()
	var batch bytes.Buffer
	var first error
	count := 0
	flush := func() {
		if count > 0 && first == nil {
			if first = l.append(batch.Bytes()); first != nil {
				failed(first)
			}
		}
		batch.Reset()
		count = 0
	}
	for {
		select {
		case result, ok := <-results:
			if !ok {
				flush()
				return first
			}
			line, err := json.Marshal(result)
			if err != nil && first == nil { // it has nothing that cannot be encoded
				first = err
				failed(err)
			}
			batch.Write(line)
			batch.WriteByte('\n')
			if count++; count == resultBatch {
				flush()
			}
		case <-ticker.C:
			flush()
		}
	}
}

func (l *resultLog) append(lines []byte) error {
	if _, err := l.file.Write(lines); err != nil {
		return fmt.Errorf("results file: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("results file: %w", err)
	}
	return nil
}

// doneSet remembers identities in 15 bytes each: no two people of this world
// share 120 bits of a hash.
type doneSet struct{ keys [][15]byte }

func (d *doneSet) add(id identity.Identity) { d.keys = append(d.keys, shortKey(id)) }

// sort must be called after the last add.
func (d *doneSet) sort() {
	slices.SortFunc(d.keys, compareKeys)
	d.keys = slices.Compact(d.keys)
}

func (d *doneSet) has(id identity.Identity) bool {
	_, found := slices.BinarySearchFunc(d.keys, shortKey(id), compareKeys)
	return found
}

func compareKeys(a, b [15]byte) int { return cmp.Or(bytes.Compare(a[:], b[:]), 0) }

func shortKey(id identity.Identity) (key [15]byte) {
	_, _ = base64.RawURLEncoding.Decode(key[:], []byte(id.Key()[:20])) // Key is base64url
	return key
}
