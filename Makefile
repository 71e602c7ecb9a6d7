# Everything a developer needs. `make build` takes seconds, except the first
# time, when the embedded Temporal server is compiled (some minutes).

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
MODULE  := github.com/kafka-backup/kafka-backup
LDFLAGS := -s -w $(if $(VERSION),-X $(MODULE)/internal/version.number=$(VERSION))
GO      ?= go
KAFKA   ?= fake
WORKFLOWCHECK := v0.6.0
NAMES   ?= .

.PHONY: build build-product server unit test crash demo demo-stop lint histories fmt clean

build: build-product server ## the commands, into bin/

build-product:
	@mkdir -p bin
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/kafka-backup ./starter
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/kafka-backup-worker ./worker

server:
	@mkdir -p bin
	@test -e bin/kafka-backup-server || echo "building the embedded Temporal server; the first time takes some minutes"
	cd deploy/server && $(GO) build -ldflags '-s -w' -o ../../bin/kafka-backup-server .

unit: ## the tests that need no broker; seconds
	$(GO) test ./internal/... ./activities/... ./workflows/... ./starter/... ./worker/...

test: unit server ## every test, those with real Kafka, S3 and Temporal included; some minutes
	KAFKA_BACKUP_SERVER=$(CURDIR)/bin/kafka-backup-server $(GO) test -count=1 ./internal/temporalservice/
	cd deploy/server && $(GO) test -count=1 ./...
	$(GO) test -count=1 -p 2 -timeout 25m ./test/...

crash: ## kill workers with -9, N times (20), at random moments; SEED=... repeats a run
	KAFKA_BACKUP_CRASH_N=$(N) KAFKA_BACKUP_CRASH_SEED=$(SEED) $(GO) test -count=1 -v -timeout 0 -run 'TestKilledWorkers|TestSleepingWorkers' ./test/crash

demo: build ## back up a cluster, lose it, restore it, and compare; KAFKA=real takes Apache Kafka
	$(GO) build -o bin/demo ./test/demo
	bin/demo run -kafka $(KAFKA)

demo-stop: ## end what `make demo` left running
	$(GO) build -o bin/demo ./test/demo
	bin/demo stop

lint:
	@bad=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$bad" ]; then echo "gofmt needed:"; echo "$$bad"; exit 1; fi
	$(GO) vet ./...
	cd deploy/server && $(GO) vet ./...
	$(GO) run go.temporal.io/sdk/contrib/tools/workflowcheck@$(WORKFLOWCHECK) -config workflowcheck.config.yaml ./workflows/...

histories: server ## record workflow histories for the replay tests; NAMES chooses which (see docs/CONTRIBUTING.md)
	$(GO) test -count=1 ./workflows -run TestHistoriesReplay -record '$(NAMES)'

fmt:
	gofmt -w $$(git ls-files '*.go')

clean:
	rm -rf bin

.PHONY: bench-offsets
bench-offsets: server ## how fast offsets are set, beside a bare client, a loop and Kafka's tool; ARGS="-groups 100" for less
	KAFKA_BACKUP_SERVER=$(CURDIR)/bin/kafka-backup-server $(GO) run ./test/offsetbench $(ARGS)

.PHONY: bench bench-partitions
bench: build ## how fast a backup and a restore are, beside raw and ordinary fetch and produce; ARGS="-rounds 1 -storage file" for less
	$(GO) build -o bin/bench ./test/bench
	bin/bench $(ARGS)

bench-partitions: build ## back up and restore 5,000 small partitions; ARGS="-partitions 1000" for less
	$(GO) build -o bin/bench ./test/bench
	bin/bench -what partitions $(ARGS)
