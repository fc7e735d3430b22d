# Everything a developer runs. `make help` lists it.

# gin drags in a MessagePack codec that nothing here uses; without it the binary
# is a quarter smaller.
GOTAGS  := nomsgpack
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help build demo test test-unit test-e2e lint bench setup clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the static binary bin/whisp-bff
	CGO_ENABLED=0 $(GO) build -tags $(GOTAGS) -trimpath -ldflags '$(LDFLAGS)' -o bin/whisp-bff ./cmd/whisp-bff

demo: build ## the whole thing on loopback: provider, Whisp simulator, chat page and whisp-bff; needs Go only
	$(GO) build -tags $(GOTAGS) -o bin/whisp-demo ./cmd/whisp-demo
	@./bin/whisp-demo

test: setup test-unit test-e2e ## everything: unit, integration, browsers, with the race detector

test-unit: ## Go tests with the race detector; installs nothing
	@echo "==> formatting and vet"
	@unformatted=$$(gofmt -l cmd internal e2e bench); if [ -n "$$unformatted" ]; then echo "gofmt would change: $$unformatted"; exit 1; fi
	$(GO) vet -tags $(GOTAGS),e2e ./...
	@echo "==> unit and integration tests"
	$(GO) test -tags $(GOTAGS) -race ./...

test-e2e: ## real clients: Chromium, sockjs-client, stompjs, a certified provider
	@echo "==> end-to-end tests"
	PATH="$(CURDIR)/.cache/node/bin:$$PATH" $(GO) test -tags $(GOTAGS),e2e -race -count=1 -timeout 15m ./e2e/...

setup: ## install what the tests need and is missing (Debian packages, npm packages)
	@./scripts/setup-tests

lint: ## golangci-lint, as strict as .golangci.yml
	@./scripts/lint

bench: build setup ## figures beside a real nginx, in the same run
	$(GO) run -tags $(GOTAGS) ./bench

clean: ## delete what was built
	rm -rf bin .cache
