// Package e2e drives the real whisp-bff binary with clients that other people
// wrote: Chromium (by playwright-core), sockjs-client, @stomp/stompjs. Around it
// stand oidc-provider, a certified OpenID Provider, a real nginx, and apps with
// the logins that people use (Auth.js, Passport, express-openid-connect). Only
// Whisp itself is simulated (internal/whispsim, in the test's own process, so
// that a test can ask what reached it).
//
// The tests are behind the build tag e2e:
//
//	npm ci --prefix e2e --ignore-scripts
//	go test -race -tags nomsgpack,e2e ./e2e
//
// They need node 20 or newer, its modules in e2e/node_modules, nginx, and a
// Chromium on the PATH (or in $CHROMIUM); `make setup` installs all of it. What is
// missing fails them, with the way to get it; nothing is skipped.
//
// One test is read like this: a stack is started (stack_test.go: provider,
// simulator, app, whisp-bff, all on free loopback ports), tabs are opened
// (browser_test.go) or people signed in over plain HTTP (person_test.go), and
// what they see is compared with what the simulator saw. Nothing sleeps: the
// tests wait for things that can be seen, and give up after a while. Whisp's
// JWTs expire because the simulator's clock is put forward.
//
// Pictures of what the browser showed are left in e2e/screenshots; those of a
// test that failed begin with "failed-". The README's, docs/demo.png, is taken by
//
//	go test -tags nomsgpack,e2e -run TestDemo ./e2e -update
package e2e
