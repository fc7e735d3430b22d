package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/whisp-bff/whisp-bff/internal/identity"
)

// maxImportRow bounds one row in bytes, and with it what the reader keeps.
const maxImportRow = 1 << 20

// importRow is one person of the file, or what is wrong with their row.
type importRow struct {
	line int // where the row begins, from 1
	// issuer and subject as written, for the result; perhaps no identity.
	issuer, subject string
	id              identity.Identity
	problem         *rowProblem // nil: id is good
	size            int64       // bytes from the row before to the end of this one
}

// rowProblem is what is wrong with one row; the others can be read.
type rowProblem struct {
	column int // in bytes, from 1
	text   string
}

// importRows reads a file row by row. next ends with io.EOF; any other error ends
// the file too.
type importRows interface{ next() (importRow, error) }

// newImportRows reads name's format from its ending. issuer stands in where a row
// names none.
func newImportRows(name, issuer string, file io.Reader) (importRows, error) {
	buffered := bufio.NewReaderSize(file, 64<<10)
	// The byte order mark that spreadsheets write.
	if mark, err := buffered.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = buffered.Discard(3)
	}
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv":
		return newCSVRows(buffered, issuer)
	case ".jsonl", ".ndjson":
		return &jsonRows{in: buffered, issuer: issuer}, nil
	}
	return nil, errors.New("has to end in .csv or .jsonl, which says how it is read")
}

// csvRows reads CSV (RFC 4180) with a header. Fields are separated by commas, or
// by semicolons if the header has no comma.
type csvRows struct {
	in      *csv.Reader
	bounds  *boundedReader
	issuer  string
	columns []csvColumn
	at      int64 // bytes consumed
	line    int   // of the row before
}

// csvColumn is what a column means: issuer, subject, or the way to a claim.
type csvColumn struct {
	name string
	path []string // nil for issuer and subject
}

func newCSVRows(file *bufio.Reader, issuer string) (*csvRows, error) {
	bounds := &boundedReader{r: file, left: maxImportRow}
	c := &csvRows{in: csv.NewReader(bounds), bounds: bounds, issuer: issuer, line: 1}
	first, _ := file.Peek(4096) // an error comes again below
	if line, _, _ := bytes.Cut(first, []byte("\n")); !bytes.Contains(line, []byte(",")) && bytes.Contains(line, []byte(";")) {
		c.in.Comma = ';'
	}
	header, err := c.in.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("is empty; the first line names the columns: issuer,subject,preferred_username,email")
	}
	if err != nil {
		return nil, fmt.Errorf("the header cannot be read: %w", err)
	}
	for i, name := range header {
		column, err := newCSVColumn(strings.TrimSpace(name))
		if err == nil {
			err = column.clashes(c.columns)
		}
		if err != nil {
			line, at := c.in.FieldPos(i)
			return nil, fmt.Errorf("line %d, column %d: %w", line, at, err)
		}
		c.columns = append(c.columns, column)
	}
	if !slices.ContainsFunc(c.columns, func(column csvColumn) bool { return column.name == "subject" }) {
		return nil, errors.New("line 1: there is no column subject")
	}
	if issuer == "" && !slices.ContainsFunc(c.columns, func(column csvColumn) bool { return column.name == "issuer" }) {
		return nil, errors.New("line 1: there is no column issuer; if all rows have the same, say --issuer")
	}
	c.at = c.in.InputOffset()
	return c, nil
}

// newCSVColumn splits a name at its dots: address.locality is a member of the
// claim address. A backslash makes the next dot part of the name.
func newCSVColumn(name string) (csvColumn, error) {
	switch {
	case name == "":
		return csvColumn{}, errors.New("a column has no name")
	case !utf8.ValidString(name):
		return csvColumn{}, errors.New("the column's name is not UTF-8; save the file as UTF-8")
	case name == "issuer" || name == "subject":
		return csvColumn{name: name}, nil
	}
	path := strings.Split(strings.ReplaceAll(name, `\.`, "\x00"), ".")
	for i := range path {
		path[i] = strings.ReplaceAll(path[i], "\x00", ".")
		if path[i] == "" {
			return csvColumn{}, fmt.Errorf("the column %q has an empty part", name)
		}
	}
	return csvColumn{name, path}, nil
}

// clashes finds a column that says the same, or of which this one is a part.
func (c csvColumn) clashes(others []csvColumn) error {
	for _, other := range others {
		short := min(len(c.path), len(other.path))
		if c.name == other.name || short > 0 && slices.Equal(c.path[:short], other.path[:short]) {
			return fmt.Errorf("the columns %q and %q are for the same value", other.name, c.name)
		}
	}
	return nil
}

func (c *csvRows) next() (importRow, error) {
	c.bounds.left = maxImportRow
	fields, err := c.in.Read()
	row := importRow{issuer: c.issuer, size: c.in.InputOffset() - c.at}
	c.at = c.in.InputOffset()
	if broken, ok := errors.AsType[*csv.ParseError](err); ok {
		row.line, c.line = broken.StartLine, broken.Line
		row.problem = &rowProblem{broken.Column, broken.Err.Error()}
		switch {
		case errors.Is(err, csv.ErrFieldCount):
			row.problem.text = fmt.Sprintf("has %d fields, the header has %d", len(fields), len(c.columns))
		case broken.Line != broken.StartLine:
			row.problem = &rowProblem{1, fmt.Sprintf("has a quote that goes wrong in line %d, column %d", broken.Line, broken.Column)}
		}
		return row, nil
	}
	if errors.Is(err, errRowTooLong) {
		return importRow{}, fmt.Errorf("the row after line %d is longer than 1 MiB; is a quote left open?", c.line)
	}
	if err != nil {
		return importRow{}, err
	}
	row.line, _ = c.in.FieldPos(0)
	c.line, _ = c.in.FieldPos(len(fields) - 1)
	c.read(fields, &row)
	return row, nil
}

func (c *csvRows) read(fields []string, row *importRow) {
	columns := map[string]int{}
	tree := map[string]any{}
	for i, text := range fields {
		column := c.columns[i]
		if !utf8.ValidString(text) {
			row.problem = &rowProblem{c.column(i), column.name + " is not UTF-8; save the file as UTF-8"}
			return
		}
		switch {
		case column.name == "issuer":
			columns["issuer"] = c.column(i)
			if text != "" {
				row.issuer = text
			}
		case column.name == "subject":
			columns["subject"], row.subject = c.column(i), text
		case text != "":
			column.put(tree, text)
		}
	}
	claims := make(map[string]json.RawMessage, len(tree))
	for name, value := range tree {
		raw, err := json.Marshal(value)
		if err != nil { // strings, booleans and maps of them
			row.problem = &rowProblem{1, err.Error()}
			return
		}
		claims[name] = raw
	}
	row.identify(claims, columns)
}

func (c *csvRows) column(field int) int {
	_, column := c.in.FieldPos(field)
	return column
}

// put stores a cell where its column says. The claims that OpenID Connect Core
// 1.0 section 5.1 makes booleans become some: "false" would count as said yes.
func (c csvColumn) put(tree map[string]any, text string) {
	last := len(c.path) - 1
	for _, step := range c.path[:last] {
		inner, ok := tree[step].(map[string]any)
		if !ok {
			inner = map[string]any{}
			tree[step] = inner
		}
		tree = inner
	}
	var value any = text
	if name := c.path[last]; name == "email_verified" || name == "phone_number_verified" {
		switch strings.ToLower(text) {
		case "true":
			value = true
		case "false":
			value = false
		}
	}
	tree[c.path[last]] = value
}

// identify turns the row into an identity or a problem; columns say where fields
// stand.
func (r *importRow) identify(claims map[string]json.RawMessage, columns map[string]int) {
	id, _, err := identity.Listed(r.issuer, r.subject, claims)
	if err == nil {
		r.id = id
		return
	}
	r.problem = &rowProblem{1, err.Error()}
	if field, ok := errors.AsType[*identity.FieldError](err); ok && columns[field.Field] > 0 {
		r.problem.column = columns[field.Field]
	}
}

var errRowTooLong = errors.New("row too long")

// boundedReader gives out no more bytes for one row than left.
type boundedReader struct {
	r    io.Reader
	left int
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errRowTooLong
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// jsonRows reads one JSON object in each line: {"issuer", "subject", "claims"}.
type jsonRows struct {
	in     *bufio.Reader
	issuer string
	line   int
}

func (j *jsonRows) next() (importRow, error) {
	for {
		text, size, err := j.readLine()
		if err != nil {
			return importRow{}, err
		}
		j.line++
		row := importRow{line: j.line, issuer: j.issuer, size: size}
		switch {
		case size > maxImportRow:
			row.problem = &rowProblem{1, "is longer than 1 MiB"}
			return row, nil
		case len(bytes.TrimSpace(text)) > 0:
			j.read(text, &row)
			return row, nil
		}
	}
}

// readLine returns a line, or nothing but the size of one that is too long.
func (j *jsonRows) readLine() (text []byte, size int64, err error) {
	for {
		part, err := j.in.ReadSlice('\n')
		size += int64(len(part))
		if size <= maxImportRow {
			text = append(text, part...)
		} else {
			text = nil
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && size > 0:
			return text, size, nil
		default:
			return text, size, err
		}
	}
}

func (j *jsonRows) read(text []byte, row *importRow) {
	if !utf8.Valid(text) {
		row.problem = &rowProblem{1, "is not UTF-8"}
		return
	}
	var object struct {
		Issuer  string                     `json:"issuer"`
		Subject string                     `json:"subject"`
		Claims  map[string]json.RawMessage `json:"claims"`
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&object); err != nil {
		row.problem = jsonProblem(err, text, decoder.InputOffset())
		return
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		row.problem = &rowProblem{int(decoder.InputOffset()) + 1, "has something behind the object"}
		return
	}
	if object.Issuer != "" {
		row.issuer = object.Issuer
	}
	row.subject = object.Subject
	row.identify(object.Claims, nil)
}

func jsonProblem(err error, text []byte, offset int64) *rowProblem {
	reason := err.Error()
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = syntax.Offset - 1
	} else if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		offset, reason = kind.Offset-1, fmt.Sprintf("%s is not of the right type", kind.Field)
	} else if field, ok := strings.CutPrefix(reason, "json: unknown field "); ok {
		offset = int64(max(0, bytes.Index(text, []byte(field))))
		reason = fmt.Sprintf(`unknown field %s: an object has issuer, subject and claims, and what else is known goes into claims`, field)
	} else if errors.Is(err, io.ErrUnexpectedEOF) {
		offset, reason = int64(len(text)), "ends in the middle of the object"
	}
	return &rowProblem{int(max(0, offset)) + 1, reason}
}
