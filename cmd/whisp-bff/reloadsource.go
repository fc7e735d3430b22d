package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"

	"github.com/whisp-bff/whisp-bff/internal/config"
)

// source is the configuration file and all files that it names.
//
// Files are told apart by what they hold and not by events or times: Kubernetes
// swaps symbolic links, some volumes tell nobody of changes, and editors replace
// files. Contents never lie.
type source struct {
	file string
	env  func(string) (string, bool)
	// read is what the last load read, whether it succeeded or not.
	read contents
}

func newSource(file string) *source { return &source{file: file, env: os.LookupEnv} }

// load reads the configuration with its secrets, and remembers what it read.
func (s *source) load() (*config.File, error) {
	s.read = contents{}
	cfg, err := config.Load(s.file, s.env, s.read.open)
	if err != nil {
		return nil, err
	}
	for _, names := range cfg.NamedFiles() {
		for _, name := range names {
			s.read[name] = look(name)
		}
	}
	return cfg, nil
}

// now is what the files that were read last hold at the moment.
func (s *source) now() contents {
	now := make(contents, len(s.read))
	for name := range s.read {
		now[name] = look(name)
	}
	return now
}

// contents are digests of files by name.
type contents map[string]digest

type digest [sha256.Size]byte

func (c contents) same(as contents) bool { return maps.Equal(c, as) }

// maxLook is more than any file that a configuration names has.
const maxLook = 8 << 20

// errNoFile: a pipe or a device, which would wait for its writer, or a folder.
var errNoFile = errors.New("not a regular file")

func readRegular(name string) ([]byte, fs.FileInfo, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errNoFile
	}
	f, err := config.Disk(name)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing can be lost
	text, err := io.ReadAll(io.LimitReader(f, maxLook))
	return text, info, err
}

// look digests a file. All that cannot be read look alike, and like no file that
// can.
func look(name string) digest {
	text, _, err := readRegular(name)
	return digestOf(text, err)
}

func digestOf(text []byte, err error) digest {
	if err != nil {
		return digest{}
	}
	return sha256.Sum256(text)
}

// open is a [config.Open] that remembers what was read, to the byte.
func (c contents) open(name string) (fs.File, error) {
	text, info, err := readRegular(name)
	c[name] = digestOf(text, err)
	switch {
	case errors.Is(err, errNoFile): // can be read once, or not at all
		return config.Disk(name)
	case err != nil:
		return nil, err
	}
	return &held{Reader: bytes.NewReader(text), info: info}, nil
}

// held is a file that was read already.
type held struct {
	*bytes.Reader
	info fs.FileInfo
}

// Stat implements [fs.File].
func (h *held) Stat() (fs.FileInfo, error) { return h.info, nil }

// Close implements [fs.File].
func (h *held) Close() error { return nil }
