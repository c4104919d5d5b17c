# `make demo` shows the main job working, `make test` proves it, `make fuzz` looks for more, `make check` is for every commit, `make bench` measures.

.PHONY: demo install test test-slowed fuzz check audit bench build target clean

TOOLCHAIN := $(shell sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)

# Everything is built with one profile, so that wasmtime is compiled once.
build: target
	cargo build --release --locked -p airlock

# rust-toolchain.toml names the toolchain and the wasm target; rustup does not always install them by itself.
target:
	@command -v rustup >/dev/null || { echo "airlock is built with rustup: install it first" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "airlock needs a C compiler for SQLite: install one first" >&2; exit 1; }
	@rustup toolchain list | grep -q "^$(TOOLCHAIN)" || rustup toolchain install $(TOOLCHAIN) --profile minimal
	@rustup target list --installed | grep -qx wasm32-wasip2 || rustup target add wasm32-wasip2

# Into $(DESTDIR)$(PREFIX)/bin, stripped, with its debug information beside it.
PREFIX ?= /usr/local
install: build
	bash host/daemon/install.sh target/release/airlock "$(DESTDIR)$(PREFIX)"

demo: build
	@bash tests/demo.sh

test: build
	bash tests/setup.sh
	bash tests/all.sh

# The same on a processor that has something else to do. It takes hours.
test-slowed: build
	bash tests/setup.sh
	bash tests/slowed.sh

# Inputs that nobody thought of for every reader of what others write: a minute each, or AIRLOCK_FUZZ_SECONDS.
fuzz: target
	bash tests/fuzz.sh

check: target
	@rustup component list --installed | grep -q clippy || rustup component add clippy rustfmt
	cargo fmt --all --check
	cargo fmt --manifest-path guest-sdk/Cargo.toml --all --check
	for guest in plugins/* tests/guests/*; do cargo fmt --manifest-path $$guest/Cargo.toml --check || exit 1; done
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps

# Known weaknesses of dependencies: the list of them is on the internet, so this is not a part of `make test`.
audit: target
	@command -v cargo-audit >/dev/null || cargo install --locked cargo-audit
	cargo audit

bench: build
	cargo bench --locked --workspace --profile release --bench figures
	cargo bench --locked --workspace --profile release --bench lists
	cargo bench --locked --workspace --profile release --bench calls

clean:
	cargo clean
