# Murmur's commands. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: demo
demo: cluster images ## the main job, on a real cluster, step by step
	@tests/demo/demo.sh

.PHONY: test
test: ## all tests: formatting, lints, drift, units, broker, API server, charts, cluster
	@tests/run.sh

.PHONY: check
check: ## what needs no cluster: formatting, lints, drift, units, broker, API server, charts
	@tests/run.sh format lint drift tools charts services rust robust sdk

.PHONY: soak
soak: ## faults at random for hours, each run checked: RUNS=200, AT_ONCE=2, SEED=… to repeat one
	@tests/robustness/soak.sh --runs $(or $(RUNS),200) --at-once $(or $(AT_ONCE),1) --long-every 20 $(if $(SEED),--seed $(SEED))

.PHONY: bench
bench: ## measure: tables, and target/bench/*.json
	@bench/run.sh

.PHONY: images
images: ## build our images, and load them into the cluster if there is one; PROFILE=release for production
	@images/build.sh

.PHONY: cluster
cluster: ## a kind cluster (NODES=3 for three nodes), and its kubeconfig
	@tests/cluster/up.sh

.PHONY: cluster-down
cluster-down: ## delete the cluster
	@tests/cluster/down.sh

.PHONY: crds
crds: ## write crds/*.yaml and the chart's copy from the Rust types
	@cargo run -q -p murmur-crds --bin crdgen

.PHONY: clean
clean: cluster-down ## delete the cluster and what was built (the caches stay)
	cargo clean
