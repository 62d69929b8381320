# `make` lists what there is. `make check` is what CI runs.

# Tests that need a server or a browser say so and skip where it is missing; with CI set they fail.
CARGO ?= cargo
FMT := $(CARGO) fmt --all -- --config-path .ci/rustfmt.toml
CLIPPY := CLIPPY_CONF_DIR=.ci $(CARGO) clippy --locked --workspace --all-targets
BIN := $(or $(CARGO_TARGET_DIR),target)/debug
# The tests are of what ships: with spans, whose libraries `make run` does without. One set of features, so that they are built once.
TESTED := --features otlp
RELEASED := $(or $(CARGO_TARGET_DIR),target)/release/magic-link

.PHONY: help run run-service test check format house lint openapi openapi-check openapi-lint bench bench-million soak trace interop guards clients image-build image-test package package-files package-test rules-test kubernetes-check failover rolling-upgrade year runbooks-test deny sbom release

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# What an incremental build keeps for the next one costs the first one a third of the time for our own crate.
run: ## Build and start the service with the preview mailbox, and the example portal beside it
	@[ -x $(BIN)/example-portal ] || echo "Building the service and its example portal: about three minutes on two cores, this first time only."
	CARGO_INCREMENTAL=0 $(CARGO) build --locked --workspace --bins
	@sh examples/portal/demo.sh $(BIN)/magic-link $(BIN)/example-portal

run-service: ## Build and start the service with the preview mailbox, for a portal of your own
	$(CARGO) build --locked --bin magic-link
	@sh examples/portal/demo.sh $(BIN)/magic-link

# A back-trace of each failure would bury the others.
test: export RUST_BACKTRACE = 0
test: ## Run every test on both databases
	$(CARGO) build --locked --profile test --workspace --bins --tests $(TESTED)
	@rm -f $(or $(CARGO_TARGET_DIR),target)/tmp/codes-seen.txt
	$(CARGO) test --locked --lib --tests $(TESTED)
	$(CARGO) test --locked --test api $(TESTED) -- --ignored every_code_of_every_operation

check: format house lint test openapi-check ## What CI runs

format: ## Check the format
	$(FMT) --check

house: ## Check that modules stand on floors without circles
	python3 .ci/circles.py

lint: ## Check the house rules, with spans and without
	$(CLIPPY) $(TESTED) -- -D warnings
	$(CLIPPY) -- -D warnings

openapi: ## Write the API description
	$(CARGO) build --locked --bin magic-link
	$(BIN)/magic-link openapi > openapi/openapi.json
	$(BIN)/magic-link openapi --3.0 > openapi/openapi-3.0.json
	$(BIN)/magic-link openapi --webhooks > openapi/webhooks.json
	$(BIN)/magic-link openapi --collection > openapi/collection.json

# With a test, so that it is the binary that the tests have built: their libraries have features that ours go without.
openapi-check: ## Check that the API description is the one of the routes, and breaks nobody
	python3 .ci/breaking.py
	$(CARGO) build --locked --profile test --bin magic-link --test api $(TESTED)
	@for document in openapi.json: openapi-3.0.json:--3.0 webhooks.json:--webhooks collection.json:--collection; do \
		file=openapi/$${document%%:*}; \
		$(BIN)/magic-link openapi $${document#*:} | diff -u $$file - \
			|| { echo "$$file is not current: run 'make openapi' and commit it" >&2; exit 1; }; \
	done

openapi-lint: ## Let three linters read the API description; needs python3, npm and their registries
	@sh tests/openapi/run.sh

bench: ## Measure, and write benches/RESULTS.md
	$(CARGO) bench --locked --bench service

bench-million: ## Measure beside a million links and sessions, and after a million tokens; takes minutes and room
	$(CARGO) bench --locked --bench service -- million

trace: ## See in the system calls that every acknowledgement comes after a sync; needs strace
	$(CARGO) test --locked --test api $(TESTED) -- --ignored durability

soak: ## The races, crashes and large orders with their full counts; takes ten minutes
	RACE_ROUNDS=200 MANY_LINKS=100000 READERS=2000 $(CARGO) test --locked --test api $(TESTED) -- \
		races crash outbox hostile nobody_who_asks a_large_order readers_that_do_not_read
	$(CARGO) test --locked --test api $(TESTED) -- --ignored bodies_back_cost

# Of a release binary that was built already; Debian's python3, because python3-psycopg2 is for that one.
failover: ## A hundred failovers under load, resumable; result in tests/failover/RESULT.md; needs root, a release binary and more
	@FAILOVER_SERVICE="$(or $(FAILOVER_SERVICE),$(RELEASED))" /usr/bin/python3 tests/failover/run.py

rolling-upgrade: ## Rolling upgrades over two schema versions under load; result in tests/rolling/RESULT.md; needs root, a release binary and more
	@ROLLING_SERVICE="$(or $(ROLLING_SERVICE),$(RELEASED))" CARGO="$(CARGO)" /usr/bin/python3 tests/rolling/run.py

year: ## A simulated year of links and erasing; its section of benches/RESULTS.md; needs root and a release binary
	@YEAR_SERVICE="$(or $(YEAR_SERVICE),$(RELEASED))" /usr/bin/python3 tests/year/run.py

runbooks-test: ## Run the runbooks for what is lost, leaked or full as they stand; needs root and a release binary
	@RUNBOOKS_SERVICE="$(or $(RUNBOOKS_SERVICE),$(RELEASED))" python3 tests/runbooks/run.py

interop: ## Let libraries of two other languages verify what we sign; needs python3, npm and their registries
	@CARGO="$(CARGO)" sh tests/interop/run.sh

guards: ## Let the guards of examples/ run the life of a link; needs python3, npm, java and their registries
	@CARGO="$(CARGO)" python3 tests/guards/run.py

clients: ## Let eight generators make clients that run the life of a link; needs python3, npm, java and their registries
	@CARGO="$(CARGO)" python3 tests/clients/run.py

package: image-build package-files ## Build the Debian package in target/debian; needs cargo-deb and cargo-auditable

# Of a program that was built already; everything lies below target/.
package-files:
	rm -rf target/package
	$(RELEASED) package-files target/package
	@printf 'magic-link (%s-1) unstable; urgency=medium\n\n  * What changed stands in CHANGELOG.md of the sources.\n\n -- %s  %s\n' \
		"$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)" \
		"$$(sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)" "$$(date --utc --rfc-email)" > target/package/changelog
	$(CARGO) deb --locked --no-build

package-test: ## Install the package, run it under systemd, and keep the result in tests/package/RESULT.md; needs root and more
	@CARGO="$(CARGO)" sh tests/package/run.sh

rules-test: ## Test the alert rules and the queries of the dashboard; needs promtool
	@python3 tests/prometheus/run.py

kubernetes-check: ## Check the manifests against the schemas of Kubernetes; needs python3 and its registry
	@sh tests/kubernetes/run.sh

deny: ## Check licences, duplicates and sources of what we build from; needs cargo-deny
	$(CARGO) deny --locked --config .ci/deny.toml check bans licenses sources

sbom: ## Write what we build from to target/magic-link.cdx.json (CycloneDX); needs cargo-cyclonedx
	$(CARGO) cyclonedx --format json --spec-version 1.5 --features pg-tls,otlp,package --override-filename magic-link.cdx
	mkdir -p target && mv magic-link.cdx.json target/ && rm examples/portal/magic-link.cdx.json

release: ## Build the binary that ships
	$(CARGO) build --locked --release --bin magic-link

image-build: ## What image and package ship, with the list of what it was built from; needs perl, for TLS to PostgreSQL, and cargo-auditable
	$(CARGO) auditable build --locked --release --bin magic-link --features pg-tls,otlp,package

image-test: ## Build the image, run it, start the compose file with it, and keep the result in tests/image/RESULT.md; needs root, buildah, podman and more
	@sh tests/image/run.sh
