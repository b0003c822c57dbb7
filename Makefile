# The one front door: people and CI call the same targets.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
PAGE := crates/server/page
CLIENTS := tests/clients
CLIENT_TOOLS := $(TARGET)/client-tools
PEERS := $(TARGET)/peers
# What `make run` plays: DATA=path (or TICKWIRE_DATA), FEED=binance, or nothing for the simulated market.
DATA ?= $(TICKWIRE_DATA)
FEED ?=
SPEED ?= 1

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{ printf "  %-14s %s\n", $$1, $$2 }'
	@echo
	@echo "  make run DATA=path    plays recorded files; FEED=binance the live stream; neither: a simulated market"

.PHONY: run
run: page ## Start one node with quotes playing, and say which page to open
	$(CARGO) build --release --bin tickwire
	@deploy/run-local "$(TARGET)/release/tickwire" "$(FEED)" "$(DATA)" "$(SPEED)"

.PHONY: build
build: page ## Build the release binary
	$(CARGO) build --release --bin tickwire

.PHONY: dist
dist: page ## Build the binary that ships: stripped, fully optimised
	$(CARGO) build --profile dist --bin tickwire
	@if grep -q "a fault on purpose" "$(TARGET)/dist/tickwire"; then echo "faults for tests are in the binary" >&2; exit 1; fi
	@ls -l "$(TARGET)/dist/tickwire"

.PHONY: page
page: $(PAGE)/dist/index.html ## Build the web page that the binary embeds

$(PAGE)/node_modules/.package-lock.json: $(PAGE)/package-lock.json
	npm ci --prefix $(PAGE) --no-audit --no-fund --loglevel=error
	@touch $@

$(PAGE)/dist/index.html: $(PAGE)/node_modules/.package-lock.json $(PAGE)/index.html $(PAGE)/vite.config.ts $(shell find $(PAGE)/src -type f 2>/dev/null)
	npm run --prefix $(PAGE) --silent build
	@touch $@

.PHONY: proto
proto: ## Generate the protobuf bindings anew
	TICKWIRE_REGENERATE=1 $(CARGO) test --quiet --package tickwire-proto

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: lint
lint: $(PAGE)/node_modules/.package-lock.json ## Formatting, clippy, types of the page; whether the fuzz targets compile
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features --quiet -- --deny warnings
	$(CARGO) check --manifest-path fuzz/Cargo.toml --target-dir "$(TARGET)" --locked --quiet
	npm run --prefix $(PAGE) --silent check

.PHONY: test
test: build test-tools ## Everything: Rust, the page, official clients, a browser, the budget of instructions
	tests/run-all

.PHONY: test-tools
test-tools: $(CLIENTS)/node_modules/.package-lock.json ## Install what the tests need: client libraries, Chromium, valgrind, NATS
	@tests/install-chromium
	@tests/install-valgrind
	@tests/install-clients "$(CLIENT_TOOLS)"
	@deploy/install-peers "$(PEERS)" nats

$(CLIENTS)/node_modules/.package-lock.json: $(CLIENTS)/package-lock.json
	npm ci --prefix $(CLIENTS) --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: test-wire
test-wire: ## Only the wire: frames, Autobahn's cases, compression, long polling
	$(CARGO) test --quiet --package tickwire-tests --test it -- --show-output wire
	tests/autobahn/run

# How long each fuzz target runs, and which of them.
MINUTES ?= 5
ONLY ?=

.PHONY: fuzz
fuzz: ## Feed every decoder with anything, MINUTES=5 each (ONLY=target: one of them); fails on a finding
	fuzz/run "$(MINUTES)" "$(ONLY)"

.PHONY: test-clients
test-clients: page test-tools ## Only client libraries and the browser, against a debug build (ONLY=pattern: some of them)
	$(CARGO) build --bin tickwire
	TICKWIRE_BIN="$$(realpath "$(TARGET)/debug/tickwire")" TICKWIRE_CLIENT_TOOLS="$$(realpath "$(CLIENT_TOOLS)")" \
	  node --test --test-concurrency=1 --test-force-exit $(if $(ONLY),--test-name-pattern='$(ONLY)') $(CLIENTS)/*.test.mjs

.PHONY: test-openapi
test-openapi: ## Only the OpenAPI document against a debug build; EXAMPLES=500 for a long random run
	$(CARGO) build --bin tickwire
	tests/run-openapi $(EXAMPLES)

.PHONY: bench
bench: dist ## The figures of docs/performance.md, measured on this machine (ONLY=fan-out: some; RUNS=5; half an hour)
	deploy/bench-local "$(TARGET)/dist/tickwire" "$(TARGET)/bench"

.PHONY: bench-micro
bench-micro: ## Small benchmarks of codec, registry, outbox, aggregator, decimal, decoders (ONLY=pattern: some of them)
	$(CARGO) bench --quiet --package tickwire-pubsub --bench registry -- $(ONLY)
	$(CARGO) bench --quiet --package tickwire-channels --features testing --bench codec --bench outbox -- $(ONLY)
	$(CARGO) bench --quiet --package tickwire-market --bench quotes -- $(ONLY)

.PHONY: guard
guard: build ## Instructions per delivery, join and quote against their budget (ONLY=name; REPEAT=5: their spread; REWRITE=1: a new budget)
	@tests/install-valgrind
	$(CARGO) build --quiet --package tickwire-tests --bin tickwire-guard
	@"$(TARGET)/debug/tickwire-guard" $(if $(REWRITE),--write) $(if $(REPEAT),--repeat $(REPEAT)) $(if $(ONLY),--only '$(ONLY)') \
	  "$(TARGET)/release/tickwire" tests/budget/instructions.toml

.PHONY: bench-peers
bench-peers: dist ## The same work beside NATS, Centrifugo and Socket.IO, where they can be had, and ratios (half an hour)
	deploy/install-peers "$(PEERS)"
	deploy/bench-peers "$(TARGET)/dist/tickwire" "$(PEERS)" "$(TARGET)/bench"

.PHONY: doc
doc: ## The API documentation of the crates
	$(CARGO) doc --workspace --no-deps --quiet

.PHONY: deny
deny: ## Licences, advisories and banned crates (needs cargo-deny)
	$(CARGO) deny check
