package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
)

// readAll writes each row as one line: identity and claims, or the problem.
func readAll(name, issuer, text string) (lines []string, err error) {
	rows, err := newImportRows(name, issuer, strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	for {
		row, err := rows.next()
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
		if row.problem != nil {
			lines = append(lines, fmt.Sprintf("%d:%d: %s", row.line, row.problem.column, row.problem.text))
			continue
		}
		claims, _ := json.Marshal(row.id.Claims)
		lines = append(lines, fmt.Sprintf("%d: %s %s %s", row.line, row.id.Issuer, row.id.Subject, claims))
	}
}

func TestCSVRows(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"claims": {
			"issuer,subject,name,email\nhttps://l,1,Ann,a@example.com\nhttps://l,2,,\n",
			[]string{`2: https://l 1 {"email":"a@example.com","name":"Ann"}`, `3: https://l 2 {}`},
		},
		"nested, and a name with dots": {
			"subject,issuer,address.locality,address.country,https://acme\\.example/role\n1,i,Bern,CH,admin\n2,i,,CH,\n",
			[]string{`2: i 1 {"address":{"country":"CH","locality":"Bern"},"https://acme.example/role":"admin"}`, `3: i 2 {"address":{"country":"CH"}}`},
		},
		"booleans of OpenID Connect": {
			"issuer,subject,email_verified,phone_number_verified,other\ni,1,false,TRUE,false\ni,2,no,,\n",
			[]string{`2: i 1 {"email_verified":false,"other":"false","phone_number_verified":true}`, `3: i 2 {"email_verified":"no"}`},
		},
		"default issuer":         {"issuer,subject\n,1\ni,2\n", []string{"2: default 1 {}", "3: i 2 {}"}},
		"byte order mark, CRLF":  {"\ufeffissuer,subject\r\ni,1\r\n", []string{"2: i 1 {}"}},
		"semicolons":             {"issuer;subject;name\ni;1;a,b\n", []string{`2: i 1 {"name":"a,b"}`}},
		"no newline at the end":  {"issuer,subject\ni,1", []string{"2: i 1 {}"}},
		"several lines in a row": {"issuer,subject,name\ni,1,\"a\nb\"\ni,2,\n", []string{`2: i 1 {"name":"a\nb"}`, "4: i 2 {}"}},
		"claims of the protocol": {"issuer,subject,exp,nonce,name\ni,1,5,n,Ann\n", []string{`2: i 1 {"name":"Ann"}`}},
		"only a header":          {"issuer,subject\n", nil},
		"mistakes": {
			"issuer,subject,name\ni,,x\ni,a\x01b,x\n\"i\x02\",1,x\ni,2,\xff\ni,3\ni,4,x,y\ni,5,a\"b\ni,6,ok\n",
			[]string{
				"2:3: subject is empty", "3:3: subject is longer than 255 bytes or has control characters",
				"4:1: issuer is longer than 2048 bytes or has characters that no issuer has", "5:5: name is not UTF-8; save the file as UTF-8",
				"6:1: has 2 fields, the header has 3", "7:1: has 4 fields, the header has 3",
				"8:6: bare \" in non-quoted-field", `9: i 6 {"name":"ok"}`,
			},
		},
		"open quote": {"issuer,subject\ni,1\ni,\"2\ni,3\n", []string{"2: i 1 {}", "3:1: has a quote that goes wrong in line 4, column 5"}},
	} {
		t.Run(name, func(t *testing.T) {
			issuer := ""
			if name == "default issuer" {
				issuer = "default"
			}
			got, err := readAll("x.CSV", issuer, test.text)
			if err != nil || strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("%v\n%s\nwant\n%s", err, strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

func TestCSVHeaders(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "is empty",
		"issuer,sub\n":                   "no column subject",
		"subject\n":                      "no column issuer",
		"issuer,subject,subject\n":       `line 1, column 16: the columns "subject" and "subject"`,
		"issuer,subject,\n":              "line 1, column 16: a column has no name",
		"issuer,subject,a.b,a\n":         `the columns "a.b" and "a"`,
		"issuer,subject,a..b\n":          "has an empty part",
		"issuer,subject,n\xffame\n":      "not UTF-8",
		"issuer,subject," + "\"open\n":   "the header cannot be read",
		strings.Repeat("long,", 300_000): "the header cannot be read",
	} {
		if _, err := readAll("x.csv", "", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func TestJSONRows(t *testing.T) {
	long := `{"issuer":"i","subject":"1","claims":{"x":"` + strings.Repeat("x", 1<<20) + `"}}`
	for text, want := range map[string]string{
		`{"issuer":"i","subject":"1","claims":{"n":12345678901234567890,"a":[1,{"b":null}]}}`: `1: i 1 {"a":[1,{"b":null}],"n":12345678901234567890}`,
		`{"subject":"1"}`: "1: default 1 {}",
		"\n  \n{\"issuer\":\"i\",\"subject\":\"1\"}":        "3: i 1 {}",
		`{"issuer":"i","subject":"1","email":"a@b.c"}`:      `1:29: unknown field "email": an object has issuer, subject and claims, and what else is known goes into claims`,
		`{"issuer":"i","subject":17}`:                       "1:26: subject is not of the right type",
		`{"issuer":"i" "subject":"1"}`:                      "1:15: invalid character '\"' after object key:value pair",
		`{"issuer":"i","subject":"1"`:                       "1:28: ends in the middle of the object",
		`{"issuer":"i","subject":"1"}{}`:                    "1:30: has something behind the object",
		`[]`:                                                "1:1:  is not of the right type",
		"{\"issuer\":\"i\",\"subject\":\"\xff\"}":           "1:1: is not UTF-8",
		`{"issuer":"i"}`:                                    "1:1: subject is empty",
		long + "\n" + `{"issuer":"i","subject":"2"}` + "\n": "1:1: is longer than 1 MiB\n2: i 2 {}",
	} {
		got, err := readAll("x.jsonl", "default", text)
		if err != nil || strings.Join(got, "\n") != want {
			t.Errorf("%.60q: %v\n%s\nwant\n%s", text, err, strings.Join(got, "\n"), want)
		}
	}
	if _, err := readAll("x.json", "", "{}"); err == nil {
		t.Error("a file of another kind is read")
	}
}

// A row without an end costs 1 MiB, not what the file has.
func TestRowsAreBounded(t *testing.T) {
	const size = 64 << 20
	endless := func(head string) io.Reader {
		return io.MultiReader(strings.NewReader(head), io.LimitReader(letters{}, size))
	}
	for name, head := range map[string]string{"x.csv": "issuer,subject,name\ni,1,\"", "x.jsonl": `{"issuer":"`} {
		rows, err := newImportRows(name, "", endless(head))
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		row, err := rows.next()
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
			t.Errorf("%s: took %d MiB", name, used>>20)
		}
		switch {
		case name == "x.csv" && (err == nil || err.Error() != "the row after line 1 is longer than 1 MiB; is a quote left open?"):
			t.Errorf("%s: %v", name, err)
		case name == "x.jsonl" && (err != nil || row.problem == nil):
			t.Errorf("%s: %+v, %v", name, row.problem, err)
		}
	}
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func FuzzRows(f *testing.F) {
	f.Add("issuer,subject,a.b\ni,1,x\n\"", false)
	f.Add(`{"issuer":"i","subject":"1","claims":{"a":[]}}`, true)
	f.Fuzz(func(t *testing.T, text string, jsonl bool) {
		name := "x.csv"
		if jsonl {
			name = "x.jsonl"
		}
		rows, err := newImportRows(name, "i", strings.NewReader(text))
		if err != nil {
			return
		}
		var size int64
		for {
			row, err := rows.next()
			if err != nil {
				break
			}
			size += row.size
			if row.line < 1 || row.size < 0 || size > int64(len(text)) || row.problem != nil && row.problem.column < 1 {
				t.Fatalf("row %+v of %q", row, text)
			}
			if row.problem == nil && (row.id.Subject == "" || row.id.Issuer == "") {
				t.Fatalf("nobody: %+v", row)
			}
		}
	})
}
