package doctor

import (
	"fmt"
	"net/http"
	"sync"
	"time"
)

// dates is an [http.RoundTripper] that remembers how far the peer's clock is off,
// by the Date of its answers (RFC 9110 section 6.6.1, whole seconds).
type dates struct {
	next  http.RoundTripper
	clock func() time.Time

	mu    sync.Mutex
	known bool
	// least is the smallest distance seen: what is above it was the network.
	least time.Duration
}

func (d *dates) RoundTrip(r *http.Request) (*http.Response, error) {
	began := d.clock()
	response, err := d.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	// With an Age, the answer was kept somewhere, and so was its Date.
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil && response.Header.Get("Age") == "" {
		d.note(date, began, d.clock())
	}
	return response, nil
}

// CloseIdleConnections passes on what [http.Client] asks.
func (d *dates) CloseIdleConnections() {
	if closer, ok := d.next.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// note takes the peer's clock to have read date up to date+1s some time between
// began and ended.
func (d *dates) note(date, began, ended time.Time) {
	var off time.Duration
	switch {
	case date.Add(time.Second).Before(began):
		off = date.Add(time.Second).Sub(began)
	case date.After(ended):
		off = date.Sub(ended)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.known || off.Abs() < d.least.Abs() {
		d.known, d.least = true, off
	}
}

// finding judges the distance: up to tolerated it is right.
func (d *dates) finding(name string, tolerated time.Duration, advice string) Finding {
	d.mu.Lock()
	defer d.mu.Unlock()
	off := d.least.Round(time.Second)
	word := "ahead of"
	if off < 0 {
		word = "behind"
	}
	switch {
	case !d.known:
		return Finding{name, Info, "not verified: its answers have no Date", ""}
	case off.Abs() > tolerated:
		return Finding{name, Fail, fmt.Sprintf("%s %s this machine's clock, %s is tolerated", off.Abs(), word, tolerated), advice}
	case off.Abs() > tolerated/2:
		return Finding{name, Warn, fmt.Sprintf("%s %s this machine's clock, %s is tolerated", off.Abs(), word, tolerated), advice}
	case off == 0:
		return Finding{name, OK, "the same as this machine's, to the second", ""}
	}
	return Finding{name, OK, fmt.Sprintf("%s %s this machine's", off.Abs(), word), ""}
}
