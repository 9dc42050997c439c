# Every target works from a fresh clone: what is missing is installed by scripts/setup first.

PREFIX ?= $(HOME)/.local

.DEFAULT_GOAL := help
.PHONY: help setup build demo test bench lint fmt clean install

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install the packages that vmint needs (Debian, Ubuntu)
	@scripts/setup && echo 'setup: nothing more is missing'

build: setup ## Build the release binary, target/release/vmint
	cargo build --release --locked --bin vmint

demo: ## Set up, build, and show what vmint does (under 5 minutes after compiling)
	@scripts/demo

test: ## Set up and run all tests, on real machines
	@scripts/test

bench: build ## Measure, and print a table
	target/release/vmint bench

lint: ## Formatting, clippy, dependencies' licences, shell scripts
	@scripts/lint

fmt: ## Format all code
	cargo fmt --all

install: build ## Install vmint into PREFIX/bin (default ~/.local/bin)
	install -D -m 755 target/release/vmint '$(PREFIX)/bin/vmint'

clean: ## Remove all that was built here; images and machines stay
	cargo clean
