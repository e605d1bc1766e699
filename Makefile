# The commands of this repository; each is a script of its own in scripts/. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo demo-shell demo-down test test-unit test-e2e test-vllm test-gpu fuzz lint bench crds images

help: ## This list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## A real cluster, the operator, a real model, a streamed answer
	@scripts/demo up

demo-shell: ## A shell in the demo's cluster, with kubectl and helm
	@scripts/demo shell

demo-down: ## End the demo; nothing is left
	@scripts/demo down

test: ## Every test
	@scripts/test all

test-unit: ## Unit and integration tests, without a cluster
	@scripts/test unit

test-e2e: ## End-to-end tests on a real cluster; E2E=NAME runs those whose name holds NAME
	@scripts/test e2e

test-vllm: ## The real vLLM on CPU under supervision; fetches 6 GB. Not part of `make test`
	@scripts/test vllm

test-gpu: ## A kernel that poisons its context on this machine's GPU; skipped with a word where there is none. Not part of `make test`
	@scripts/test gpu

fuzz: ## Fuzz streams, failing answers and requests, FUZZ_SECONDS=60 each
	@scripts/test fuzz

lint: ## Formatting, clippy, shell, charts, licences, stale files
	@scripts/test lint

bench: ## CPU, speed and memory against nginx and a minimal proxy, with bars; SOAK=SECONDS of load for growth
	@scripts/bench

crds: ## Write crds/ and the chart's copy from src/api
	cargo run --quiet --bin crdgen

images: ## Build the images; prints the folder with their archives
	@scripts/build-images
