# Everything a newcomer, a reviewer or a machine runs. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
ENVOY_VERSION := 1.40.0
ENVOY := $(TARGET)/tools/envoy-$(ENVOY_VERSION)
NODE_VERSION := 22.20.0
PROVIDER := $(TARGET)/tools/provider-node-$(NODE_VERSION)
export CARDEA_ENVOY := $(ENVOY)
CVC5_VERSION := 1.3.1
# With a sum of what it is installed by, so that a change to that installs it anew, and a fresh clone does not.
CVC5 := $(TARGET)/tools/cvc5-$(CVC5_VERSION)-$(firstword $(shell cat scripts/install-cvc5.sh scripts/cvc5-repl.py | cksum))
export CARDEA_CVC5 := $(CVC5)
export CARDEA_PROVIDER := $(PROVIDER)
REDIS := $(TARGET)/tools/redis-server
export CARDEA_REDIS := $(REDIS)

.PHONY: help
help: ## List these commands
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(ENVOY) ## Envoy, an issuer and an upstream on this machine, and a guided tour (ONCE=1 exits after it)
	cargo build --release --locked --bin cardea
	$(TARGET)/release/cardea demo --envoy $(ENVOY) --bundle policies $(if $(ONCE),--once)

.PHONY: test
test: $(ENVOY) $(PROVIDER)/node_modules/.package-lock.json $(CVC5) $(REDIS) ## Every test, the ones through a real Envoy, OpenID provider, solver and Redis included
	cargo test --locked --no-fail-fast

.PHONY: lint
lint: ## Formatting, lints, documentation
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --lib --bins -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

.PHONY: docs
docs: ## Write docs/settings.md anew, from the settings' own schema
	cargo run --locked --quiet --bin cardea -- config schema | scripts/settings-reference.py > docs/settings.md

.PHONY: deny
deny: $(TARGET)/tools/bin/cargo-deny ## Licences, sources and bans of the dependencies, and advisories where they can be reached
	scripts/deny.sh $<

.PHONY: figures
figures: $(ENVOY) $(REDIS) ## Measure what benches/README.md reports; one line a figure, also in target/figures.txt
	scripts/figures.sh $(TARGET)/figures.txt

$(ENVOY):
	scripts/install-envoy.sh $(ENVOY_VERSION) $@

$(CVC5):
	scripts/install-cvc5.sh $(CVC5_VERSION) $@

$(PROVIDER)/node_modules/.package-lock.json: tests/provider/package.json tests/provider/package-lock.json tests/provider/provider.mjs scripts/install-provider.sh
	scripts/install-provider.sh $(NODE_VERSION) $(PROVIDER)

$(REDIS):
	scripts/install-redis.sh $@

$(TARGET)/tools/bin/cargo-deny:
	cargo install --locked --debug --version 0.20.2 --root $(TARGET)/tools cargo-deny
