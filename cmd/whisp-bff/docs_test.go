package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

const root = "../.."

// What the pages claim to be tested in exists.
func TestDocsNameRealTests(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`")
	exists := map[string]bool{}
	for _, file := range files(t, "_test.go") {
		for _, match := range declared.FindAllStringSubmatch(read(t, file), -1) {
			exists[match[1]] = true
		}
	}
	found := 0
	for _, page := range files(t, ".md") {
		for _, match := range named.FindAllStringSubmatch(read(t, page), -1) {
			if found++; !exists[match[1]] {
				t.Errorf("%s names %s, which is no test", page, match[1])
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d tests are named: is the pattern still right?", found)
	}
}

// Links between pages, to files and to headings lead somewhere.
func TestDocsLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fence := regexp.MustCompile("(?s)```.*?```")
	found := 0
	for _, page := range files(t, ".md") {
		text := fence.ReplaceAllString(read(t, page), "")
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			found++
			file := page
			if target != "" {
				file = filepath.Join(filepath.Dir(page), target)
			}
			info, err := os.Stat(file)
			if err != nil {
				t.Errorf("%s links to %s: %v", page, match[1], err)
				continue
			}
			if anchor != "" && (info.IsDir() || !headings(read(t, file))[anchor]) {
				t.Errorf("%s links to %s, which has no such heading", page, match[1])
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d links: is the pattern still right?", found)
	}
}

// headings are the anchors of a page, as code hosts make them.
func headings(page string) map[string]bool {
	anchors := map[string]bool{}
	fenced := false
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		level := len(line) - len(strings.TrimLeft(line, "#"))
		if fenced || level == 0 || level > 6 || line[level] != ' ' {
			continue
		}
		anchors[strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			}
			return -1
		}, strings.TrimSpace(line[level:]))] = true
	}
	return anchors
}

// files of this repository with that ending.
func files(t *testing.T, ending string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && (name == "node_modules" || name == "bin" || (strings.HasPrefix(name, ".") && path != root)) {
			return fs.SkipDir
		}
		if strings.HasSuffix(name, ending) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func read(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
