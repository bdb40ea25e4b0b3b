# The commands of the project; what they do stands in scripts/ and tests/run.
# PG_MAJOR=16 PG_CONFIG=/path/to/pg_config choose another PostgreSQL than Debian's 15.

.PHONY: help demo clean-demo test test-all test-infinity-full bench bench-index bench-queue lint fmt install clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 22

demo: ## the whole loop on real data: server, cluster, embeddings, rankings
	@scripts/demo.sh

clean-demo: ## stop and remove everything that `make demo` made
	@scripts/clean_demo.sh

test: ## all tests, as in continuous integration
	@tests/run

test-all: ## the same and those that take long
	@tests/run --all

test-infinity-full: ## the client against real ColQwen2, ColPali and ColBERT models
	@tests/run --only infinity-full

bench-index: ## the index against the exact scan: recall, times, bytes, inserts; a table and target/bench/index.json
	@bench/run index

bench: ## microseconds per document of kernels, SQL and numpy; recall; a table and target/bench/bench.json
	@bench/run

bench-queue: ## what the queue costs a writer, and how fast it is drained; a table and target/bench/queue.json
	@bench/run queue

lint: ## formatting, clippy, shell syntax
	@tests/run --only lint

fmt: ## format the Rust code
	@cargo fmt --all

install: ## the release build into the private PostgreSQL under target/
	@scripts/prerequisites.sh
	@scripts/cargo_pgrx.sh
	@scripts/private_postgres.sh
	@scripts/build_extension.sh release

clean: ## stop every scratch cluster and remove target/
	@scripts/clean.sh
