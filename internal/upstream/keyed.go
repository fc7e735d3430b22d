package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// ErrKeyChanged is returned by [Whisp.ProbeKey] and [Whisp.Register] when another
// key has taken the place of the one that was in use: go through the calls
// before it again.
var ErrKeyChanged = errors.New("another API key is in use now")

// SetKeys replaces the API keys, in order of preference, for every call that
// begins afterwards. A key that was listed before keeps its state, so one that
// is set aside stays so. A list that is empty or has an unusable key is refused
// whole, and the keys before stay. Whisp is not asked.
//
// List a new key before the old one is revoked: then nothing is interrupted.
func (w *Whisp) SetKeys(keys []secret.Text) error {
	if err := checkKeys(keys); err != nil {
		return fmt.Errorf("set keys: %w", err)
	}
	w.keys.set(keys)
	return nil
}

// ProbeKey asks whether Whisp accepts the API key in use, without creating
// anything: registerUser with an empty body is 400 if the key is good, 401 or
// 403 if not.
//
// It returns nil if the key is good (then a 401 at sign-in was about the
// password), [ErrKeyChanged] if another key is in use now, and WhispKeyRefused
// if none is usable. Any other error means that it could not be told.
func (w *Whisp) ProbeKey(ctx context.Context) error {
	before := w.keys.inUse()
	a, err := w.do(ctx, ours{
		operation: operationProbe, method: http.MethodPost, path: pathRegister,
		keyed: true, repeat: always, headerOnly: true, body: struct{}{},
	})
	switch {
	case err != nil:
		return err
	case !probedGood(a.status):
		return w.bad(operationProbe, fmt.Errorf("status %d", a.status))
	case w.keys.inUse() != before:
		return fmt.Errorf("%s: %w", operationProbe, keyChanged(time.Second))
	}
	return nil
}

func probedGood(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusUnprocessableEntity
}

func keyChanged(wait time.Duration) *problem.Problem {
	return problem.WhispKeyRefused().Because(ErrKeyChanged).After(wait)
}

// withKey is one attempt of a keyed call: it goes on through the keys while
// Whisp refuses them.
//
// What must never happen is that a 401 which was about the key is taken for
// "there is no such account", and a second account is registered with the next
// key. So a key that is set aside comes back by a probe, not by somebody's
// sign-in, and:
//
//   - With several keys, a sign-in that is refused is followed by a probe of
//     that very key. If the key is good, so was the refusal. If not, the
//     sign-in is repeated with the next. Hence it does not matter which key
//     comes into use afterwards.
//   - With one key the probe is saved: whatever acts on the refusal uses the
//     same key, and would find it refused. Only SetKeys can come between. Then
//     registering and probing fail with [ErrKeyChanged] until whoever held such
//     a refusal has met one too, for which settle is allowed.
//
// Not covered: a key that Whisp restores between a sign-in and what verifies it,
// and servers of Whisp that disagree on a key for longer than that.
//
// The loop ends because each turn either returns or sets a key aside, and
// because nothing is sent after ctx has ended.
func (w *Whisp) withKey(ctx context.Context, o ours) (answer, *failure) {
	for before := (*key)(nil); ; {
		k, f := w.keyToUse(ctx)
		if f != nil {
			return answer{}, f
		}
		if f := w.mayAct(ctx, o, k, before); f != nil {
			return answer{}, f
		}
		began := w.keys.now()
		a, f := w.ask(ctx, w.call(o, k.text))
		if f != nil {
			return a, f
		}
		refused, f := w.refusesKey(ctx, o, k, began, a.status)
		if f != nil || !refused {
			return a, f
		}
		before = k
	}
}

// mayAct keeps a call that acts on earlier refusals from doing so with another
// key than theirs.
func (w *Whisp) mayAct(ctx context.Context, o ours, k, before *key) *failure {
	if o.operation == operationSignIn {
		return nil
	}
	if o.operation == operationRegister && before != nil {
		return &failure{err: keyChanged(time.Second), connected: true}
	}
	wait := w.keys.unsettled(k)
	if wait <= 0 {
		return nil
	}
	if pause(ctx, wait, w.clock()) {
		wait = time.Second
	}
	return &failure{err: keyChanged(wait), cancelled: cancellation(ctx), connected: true}
}

// cancellation is the caller's own, not that time ran out.
func cancellation(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return nil
}

// refusesKey reports whether an answer is a refusal of the key rather than of
// what was asked. registerUser has no credentials but the key, so its 401 is
// plain. A 403 can also be a limit of the plan.
func (w *Whisp) refusesKey(ctx context.Context, o ours, k *key, began moment, status int) (bool, *failure) {
	switch {
	case status == http.StatusOK, status == http.StatusCreated, o.operation != operationSignIn && probedGood(status):
		w.keys.good(k, began)
		return false, nil
	case status != http.StatusUnauthorized && status != http.StatusForbidden:
		return false, nil
	case o.operation == operationProbe, o.operation == operationRegister && status == http.StatusUnauthorized:
		w.keys.refuse(ctx, k, began)
		return true, nil
	case status == http.StatusUnauthorized && w.keys.only(k):
		w.keys.suspect(k)
		return false, nil
	}
	good, f := w.verify(ctx, k, w.keys.now())
	switch {
	case f != nil || !good:
		return !good, f
	case status == http.StatusForbidden:
		return false, &failure{
			err:    problem.WhispRateLimited().Because(errors.New("status 403, though the API key is good: a limit of the plan?")),
			status: status, connected: true,
		}
	}
	return false, nil
}

// verify tells whether the key was good after a moment. Those who ask at the
// same time share a probe that began after all their moments.
func (w *Whisp) verify(ctx context.Context, k *key, after moment) (bool, *failure) {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return false, noAnswer(ctx, ctx.Err(), true)
	}
	if good, known := w.keys.known(k, after); known {
		return good, nil
	}
	return w.probe(ctx, k)
}

// probe asks Whisp about one key, once.
func (w *Whisp) probe(ctx context.Context, k *key) (bool, *failure) {
	o := ours{
		operation: operationProbe, method: http.MethodPost, path: pathRegister,
		keyed: true, headerOnly: true, body: struct{}{},
	}
	began := w.keys.now()
	a, f := w.ask(ctx, w.call(o, k.text))
	switch {
	case f != nil:
		return false, f
	case probedGood(a.status):
		w.keys.good(k, began)
		return true, nil
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		w.keys.refuse(ctx, k, began)
		return false, nil
	}
	return false, &failure{
		err:    problem.WhispBadAnswer().Because(fmt.Errorf("%s: status %d", operationProbe, a.status)),
		status: a.status, connected: true,
	}
}

// keyToUse returns the most preferred key that is not set aside. Keys before it
// whose time has come are tried first.
func (w *Whisp) keyToUse(ctx context.Context) (*key, *failure) {
	for {
		k, due, wait := w.keys.choose()
		switch {
		case k == nil:
			return nil, &failure{err: problem.WhispKeyRefused().After(wait), connected: true}
		case !due:
			return k, nil
		}
		w.tryAgain(ctx, k)
	}
}

// tryAgain probes a key that is set aside. The probe outlives the caller, whose
// going away must not cost the key its turn, and takes at most a third of the
// caller's time. Without an answer the key stays aside.
func (w *Whisp) tryAgain(ctx context.Context, k *key) {
	defer w.keys.tried(k)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.pace.Load().total/3)
	defer cancel()
	_, _ = w.probe(ctx, k)
}
