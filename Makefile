# Everything a developer runs. `make help` lists it.

# gin drags in a MessagePack codec that nothing here uses; without it the binary
# is a quarter smaller.
GOTAGS  := nomsgpack
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help build demo image test test-unit test-deploy test-deploy-build test-e2e lint bench setup clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the static binary bin/whisp-bff
	CGO_ENABLED=0 $(GO) build -tags $(GOTAGS) -trimpath -ldflags '$(LDFLAGS)' -o bin/whisp-bff ./cmd/whisp-bff

demo: build ## the whole thing on loopback: provider, Whisp simulator, chat page and whisp-bff; needs Go only
	$(GO) build -tags $(GOTAGS) -o bin/whisp-demo ./cmd/whisp-demo
	@./bin/whisp-demo

image: ## build the container image whisp-bff:VERSION, and say how large it is
	docker buildx build --load --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null) -t whisp-bff:$(VERSION) .
	@docker image inspect --format '{{.Size}}' whisp-bff:$(VERSION) | awk '{printf "whisp-bff:$(VERSION) %.1f MB\n", $$1 / 1e6}'

# Setting up waits for the network, compiling Helm does not: both at once.
test: ## everything: unit, integration, chart, browsers; the race detector where there is concurrency
	@$(MAKE) --no-print-directory -j2 setup test-deploy-build
	@$(MAKE) --no-print-directory test-unit
	@$(MAKE) --no-print-directory test-deploy
	@$(MAKE) --no-print-directory test-e2e

test-unit: ## Go tests with the race detector; installs nothing
	@echo "==> formatting and vet"
	@unformatted=$$(gofmt -l cmd internal e2e bench); if [ -n "$$unformatted" ]; then echo "gofmt would change: $$unformatted"; exit 1; fi
	CGO_ENABLED=0 $(GO) vet -trimpath -tags $(GOTAGS),e2e ./... # as the image is built: test-deploy shares the compiler's work
	@echo "==> unit and integration tests"
	$(GO) test -tags $(GOTAGS) -race ./...

# As the image is built, so that the compiler's work is shared with it, but for
# Kubernetes' half a million lines, where optimizing takes longer than it saves.
# What the tests read lies outside their module, where the test cache does not look.
DEPLOY_TEST = cd deploy/test && CGO_ENABLED=0 $(GO) test -trimpath -gcflags='k8s.io/...=-N -l -dwarf=false' -ldflags='-s -w'

test-deploy: ## the Dockerfile, the Helm chart, alerts, dashboard and examples
	@echo "==> deployment tests"
	@unformatted=$$(gofmt -l deploy); if [ -n "$$unformatted" ]; then echo "gofmt would change: $$unformatted"; exit 1; fi
	$(DEPLOY_TEST) -count=1 .

test-deploy-build:
	@echo "==> compiling the deployment tests"
	@$(DEPLOY_TEST) -c -o /dev/null .

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
