# Targets that boot machines: included by the Makefile. They need root and, the first time, a network;
# everything else they need they install or build themselves.

LAB_PROFILE ?= release
# Machines boot in parallel with whatever else the tests do: two labs at a time suit two cores.
LAB_THREADS ?= 2
LAB_RUN = HA_NODE_PROFILE=$(LAB_PROFILE) cargo run --quiet --locked --release --package ha-node-lab

.PHONY: setup lab-build programs demo test lint unit-test pairs mutants lab-test lab-walk bench lab-clean

## setup: install what the host lacks, build the machines' file system and what is installed into them
setup: lab-build
	$(LAB_RUN) --bin lab -- setup

lab-build:
	$(MAKE) --no-print-directory build PROFILE=$(LAB_PROFILE)

## demo: a cluster of two machines shows a move, a power cut, a return, a cut cable
demo: setup
	$(LAB_RUN) --bin demo

## test: everything: format, lints, unit tests, simulator, tests on real machines
test: programs lint unit-test lab-test

# What tests need of the host; without root they say what they skip for want of it.
programs:
	if [ "$$(id -u)" = 0 ]; then $(LAB_RUN) --bin lab -- programs; fi

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

unit-test:
	cargo test --locked --release
	cargo test --locked --release --package ha-node-lab --lib

## pairs: all pairs of faults in small simulated clusters (PAIRS_SHARE=10 for a tenth, PAIRS_ONLY=3-rest for some)
pairs:
	cargo test --locked --release --test sim_pairs -- --ignored --nocapture all_pairs

## mutants: one-line changes of the core, one by one: the tests must notice each (MUTANTS=drift for some)
mutants:
	cargo test --locked --release --test mutants -- --ignored --nocapture no_mutant_survives

## lab-test: tests on real machines; without root they say that they were skipped
lab-test:
	if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory setup; fi
	HA_NODE_PROFILE=$(LAB_PROFILE) cargo test --locked --release --package ha-node-lab --test cluster -- \
		--test-threads=$(LAB_THREADS) $(LAB_TESTS)

## lab-walk: faults and requests drawn from a seed, on real machines (WALK=500 steps, NODES=2|3, WALK_SEED=, WALK_SCRIPT=)
WALK ?= 200
NODES ?= 3
lab-walk: setup
	$(LAB_RUN) --bin walk -- --steps $(WALK) --nodes $(NODES) $(if $(WALK_SEED),--seed $(WALK_SEED)) \
		$(if $(WALK_SCRIPT),--script "$(WALK_SCRIPT)")

## bench: the project's bars, measured (BENCH="move power-cut" for some of them)
bench: LAB_PROFILE = dist
bench: setup
	$(LAB_RUN) --bin bench -- $(BENCH)

## lab-clean: remove what killed runs left behind
lab-clean:
	$(LAB_RUN) --bin lab -- clean
