# The commands of this project. `make demo` and `make test` install what they need and say in one
# line what they could not; Rust and Go are the two things that a machine must have.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO := cargo
# The property tests and races of `make e2e` run long where this is 1.
export FILMGATE_LONG ?= 0

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 12

.PHONY: images
images: require-rust prometheus ## docs/images/dashboards.svg: a day of the demo as the dashboards' queries see it
	$(CARGO) test --locked --test prometheus -- --ignored --nocapture --exact picture::draws_a_day_as_the_dashboards_show_it

.PHONY: build
build: require-rust ## filmgate as it is shipped, small in memory: target/dist/filmgate
	@tools/build.sh

.PHONY: image
image: require-rust ## the container image, without a container engine, and its bill of materials: target/image
	@mkdir -p target/image
	@tools/image.sh "$$(tools/build.sh)" target/image/filmgate.tar
	@du -h target/image/filmgate.tar
	@tools/sbom.sh target/image/filmgate.cdx.json

.PHONY: demo
demo: require-rust ## a day of a diffusion workload on simulated GPUs, three policies side by side
	$(CARGO) build --locked --release
	target/release/filmgate demo $(DEMO_FLAGS)

.PHONY: test
test: require-rust require-go cluster node-packages browser prometheus helm ## every test, on a real control plane, races and kills in short form
	$(CARGO) test --locked --lib --bins --tests

.PHONY: test-gpu
test-gpu: require-rust ## the agent on this machine's own NVIDIA driver, where there is one
	FILMGATE_TEST_GPU=1 $(CARGO) test --locked --test gpu

.PHONY: test-keda
test-keda: require-rust require-go cluster ## the real KEDA on the shipped extender, in a network of its own
	folder="$$(tools/keda.sh)" && FILMGATE_TEST_KEDA="$$folder" $(CARGO) test --locked --test keda

.PHONY: e2e
e2e: require-rust require-go cluster ## the long form: ten races in each variant, twenty kills, 100,000 interleavings
	FILMGATE_LONG=1 $(CARGO) test --locked --release --test engine_properties
	FILMGATE_LONG=1 $(CARGO) test --locked --release --test e2e -- --include-ignored --nocapture

.PHONY: chaos
chaos: require-rust require-go cluster ## bursts under faults for an hour, or SECONDS=n, from SEED=n: target/figures/chaos.json
	FILMGATE_CHAOS_SEED=$(SEED) FILMGATE_CHAOS_SECONDS=$(SECONDS) \
		$(CARGO) test --locked --release --test chaos -- --ignored --nocapture --exact run::as_long_as_asked

.PHONY: mutants
mutants: require-rust require-go cluster node-packages ## breaks each safety rule in one line and shows its test fail
	$(CARGO) test --locked --test mutants -- --ignored --nocapture

.PHONY: bench
bench: require-rust require-go cluster ## figures into target/figures/bench.json
	$(CARGO) bench --locked

.PHONY: lint
lint: require-rust ## formatting, clippy, licences and sources of dependencies, shell scripts
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	"$$(tools/cargo-deny.sh)" --locked check bans licenses sources
	tools/shellcheck.sh
	@if command -v gofmt >/dev/null; then \
		unformatted=$$(gofmt -l tests/cluster); \
		[ -z "$$unformatted" ] || { echo "gofmt -w $$unformatted"; exit 1; }; \
	fi

.PHONY: manifests
manifests: require-rust helm ## what the chart renders, for kubectl: deploy/filmgate.yaml and others
	FILMGATE_BLESS=1 $(CARGO) test --locked --test chart shipped

.PHONY: cluster
cluster: require-go # Kubernetes for the tests, built once into a cache outside the tree
	@tests/cluster/build.sh >/dev/null

.PHONY: node-packages
node-packages: # containerd and runc for the tests on a real kubelet, which are skipped without
	@tools/node-packages.sh || [ -z "$${CI:-}" ]

.PHONY: browser
browser: # Chromium for the tests of the extender's page, which are skipped without
	@tools/browser.sh || [ -z "$${CI:-}" ]

.PHONY: prometheus
prometheus: # promtool, which checks what is exposed, for tests that are skipped without
	@tools/prometheus.sh >/dev/null || [ -z "$${CI:-}" ]

.PHONY: helm
helm: require-go # helm and kubeconform for the tests of the chart, which are skipped without
	@tools/helm.sh >/dev/null || [ -z "$${CI:-}" ]

.PHONY: require-rust
require-rust:
	@tools/require.sh rust

.PHONY: require-go
require-go:
	@tools/require.sh go

.PHONY: clean
clean: ## removes what was built here (the cache outside the tree stays)
	$(CARGO) clean
