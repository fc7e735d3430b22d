// Package claimtext fills templates with claims: the texts of the configuration
// that say how a person is called.
//
//	t, err := claimtext.Parse("username", `{{.given_name}}.{{.family_name | lower}}`)
//	text, err := t.Fill(claims)
//
// The language is that of Go's text/template, parsed by its own parser
// (text/template/parse), over what JSON can hold: objects, lists, texts, numbers
// ([encoding/json.Number]), true, false and null. It has fields, variables, if, else, with, range, break,
// continue, the functions
//
//	and or not eq ne lt le gt ge index slice len print printf println
//
// and four of its own: lower, upper, trim, and localpart, which is what stands before
// the @ of an e-mail address. What a template gives here is what text/template
// gives with missingkey=error (a test compares them), with these exceptions:
//
//   - a claim that is null is as good as missing: an error, not "<no value>";
//   - numbers among the claims are also taken where a text or a number is asked for,
//     and all numbers compare by value: 5, 5.0 and a claim of 5 are equal;
//   - define, template, block, call, html, js and urlquery do not exist, nor do methods,
//     complex numbers, and formats with * or a width over 999;
//   - time and output are bounded ([MaxSteps], [MaxOutput]), since lists among the claims
//     may be as long as whoever made them likes.
//
// Claims are data: braces in a claim mean nothing.
//
// Why not text/template itself: it looks methods up by name, at which the linker
// keeps every exported method of every type in the program, here 12 MB of 30.
package claimtext

// Bounds of one Fill.
const (
	// MaxOutput is the longest result, in bytes.
	MaxOutput = 4096
	// MaxSteps is how many parts of a template may be worked through, each round of
	// a range anew.
	MaxSteps = 20_000
	// maxText is the longest text that a function may make, in bytes: as long as
	// all claims of an identity may be.
	maxText = 64 << 10
	// bytesPerStep is how much of it costs a step.
	bytesPerStep = 64
)
