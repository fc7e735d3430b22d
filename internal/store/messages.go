package store

import "sync"

// backlog is how far a subscriber may fall behind before it loses messages.
const backlog = 256

// teller calls the function of a [Messages.Watch] for several goroutines, one at
// a time.
type teller struct {
	mu       sync.Mutex
	standing func(bool)
	stands   bool
}

func (t *teller) tell(stands bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stands = stands
	t.standing(stands)
}

// lost tells that a message was lost, though the subscription stands.
func (t *teller) lost() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stands {
		t.standing(false)
		t.standing(true)
	}
}
