# Everything a developer needs. `make build` takes seconds, except the first
# time, when the embedded Temporal server is compiled (some minutes).

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
MODULE  := github.com/kafka-backup/kafka-backup
LDFLAGS := -s -w $(if $(VERSION),-X $(MODULE)/internal/cli.version=$(VERSION))
GO      ?= go

.PHONY: build build-product server test lint fmt clean

build: build-product server ## the commands, into bin/

build-product:
	@mkdir -p bin
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/kafka-backup ./starter
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/kafka-backup-worker ./worker

server:
	@mkdir -p bin
	@test -e bin/kafka-backup-server || echo "building the embedded Temporal server; the first time takes some minutes"
	cd deploy/server && $(GO) build -ldflags '-s -w' -o ../../bin/kafka-backup-server .

test: ## unit tests; they need no broker
	$(GO) test ./internal/... ./activities/... ./workflows/... ./starter/... ./worker/...

lint:
	@bad=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$bad" ]; then echo "gofmt needed:"; echo "$$bad"; exit 1; fi
	$(GO) vet ./...
	cd deploy/server && $(GO) vet ./...

fmt:
	gofmt -w $$(git ls-files '*.go')

clean:
	rm -rf bin
