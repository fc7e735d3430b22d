package config

import (
	"cmp"
	"strings"
)

// suggest says what a person probably meant by a key that a section does not
// know. fixed is the known key that the suggestion stands for, or empty.
func (s schema) suggest(path, name string, known []string) (fix, fixed string) {
	for _, k := range known {
		if squash(k) == squash(name) {
			return "did you mean " + k + "?", k
		}
	}
	if owners := s.owners[name]; len(owners) > 0 && len(owners) <= 3 {
		places := make([]string, len(owners))
		for i, owner := range owners {
			places[i] = cmp.Or(owner, "no section, at the top level")
		}
		return "this key belongs under " + strings.Join(places, " or under "), ""
	}
	if k, ok := nearest(name, known); ok {
		return "did you mean " + k + "?", k
	}
	where := "here"
	if path != "" {
		where = "under " + path
	}
	if len(known) > 12 {
		return "config.example.yaml shows every key " + where, ""
	}
	return "the keys " + where + " are " + strings.Join(known, ", "), ""
}

// squash removes what differs between clientId, client-id and client_id.
func squash(name string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(name))
}

// nearest finds the known name with the fewest edits, if they are few enough
// to be a slip: up to a third of the name, and at least one.
func nearest(name string, known []string) (string, bool) {
	if len(name) > 64 {
		return "", false
	}
	best, fewest := "", 0
	for _, k := range known {
		d := distance(squash(name), squash(k))
		if d <= max(len(k)/3, 1) && (best == "" || d < fewest) {
			best, fewest = k, d
		}
	}
	return best, best != ""
}

// distance is the number of insertions, deletions, substitutions and swaps of
// neighbours between two names (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
