//go:build linux

package main

import (
	"bytes"
	"strconv"
)

// streams are the SockJS sessions of the upstream: one xhr_streaming each.
type streams struct {
	conns map[string]*conn
	names map[*conn]string
}

func newStreams() streams {
	return streams{conns: map[string]*conn{}, names: map[*conn]string{}}
}

const (
	sockTaken   = "HTTP/1.1 204 No Content\r\n\r\n"
	sockUnknown = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
	streamHead  = "HTTP/1.1 200 OK\r\nContent-Type: application/javascript\r\nTransfer-Encoding: chunked\r\n\r\n"
	lastChunk   = "0\r\n\r\n"
)

func chunkOf(text string) []byte {
	return []byte(strconv.FormatInt(int64(len(text)), 16) + "\r\n" + text + "\r\n")
}

// prelude is what xhr_streaming begins with, so that old browsers begin to read.
var prelude = string(bytes.Repeat([]byte("h"), 2048)) + "\n"

// answer answers xhr_streaming and xhr_send: path is /api/wsConnect/SERVER/SESSION/TRANSPORT.
func (s *streams) answer(loop *loop, c *conn, path, body []byte) error {
	parts := bytes.Split(path, []byte("/"))
	if len(parts) != 6 {
		return c.write([]byte(sockUnknown))
	}
	name := string(parts[4])
	if string(parts[5]) == "xhr_streaming" {
		s.conns[name], s.names[c] = c, name
		return c.write(append(append([]byte(streamHead), chunkOf(prelude)...), chunkOf("o\n")...))
	}
	stream := s.conns[name]
	if stream == nil {
		return c.write([]byte(sockUnknown))
	}
	var err error
	switch {
	case bytes.Contains(body, []byte(tellClose)):
		s.forget(stream) // it is an ordinary connection again
		err = stream.write(append(chunkOf("c[3000,\"Go away!\"]\n"), lastChunk...))
	case bytes.Contains(body, []byte(tellReset)):
		crash(stream)
		err = errOver
	default:
		err = stream.write(chunkOf("a" + string(body) + "\n"))
	}
	if err != nil {
		s.forget(stream)
		loop.close(stream)
	}
	return c.write([]byte(sockTaken))
}

// forget forgets the session of a stream that is over; c may be anything else.
func (s *streams) forget(c *conn) {
	if name, ok := s.names[c]; ok {
		delete(s.names, c)
		delete(s.conns, name)
	}
}
