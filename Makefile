.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
STAMP := .venv/.installed
BENCH_STAMP := .venv-bench/.installed
TRL_STAMP := .venv-trl/.installed
TRL_PPO_STAMP := .venv-trl-ppo/.installed
PYTHON_FILES := services tests

PART := curation

.PHONY: bench setup-bench help setup demo test test-slow check format format-check lint types charts protos protos-check buf servers cluster test-cluster wheels images test-images test-node lock clean

help: ## List every target
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

$(STAMP): requirements.lock pyproject.toml .ci/setup $(wildcard services/plumbline/sampler/kernels/kernels*)
	@.ci/setup
	@touch $@

setup: $(STAMP) ## Make the environment in .venv (python3 and a shell are enough)

demo: $(STAMP) ## Align a small model end to end on the embedded stack
	@$(BIN)/plumbline run pipelines/quickstart.yaml

test: $(STAMP) ## Run the tests (under 15 minutes on 2 cores)
	$(BIN)/pytest -n 2 --dist loadfile $(PYTEST_ARGS) tests/unit tests/contract
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not cluster" $(PYTEST_ARGS) tests/integration

test-slow: $(STAMP) ## Run the long tests: whole quickstarts, worker and service kills
	$(BIN)/pytest -m slow $(PYTEST_ARGS)

bench: $(STAMP) ## Measure a part beside its peers: make bench PART=curation|pii|training|sampling|scoring|retrieval|retrieval_quality|factuality|curves [BENCH_ARGS=...]
	$(BIN)/python tests/benchmarks/$(PART)_bench.py $(BENCH_ARGS)

setup-bench: $(BENCH_STAMP) $(TRL_STAMP) $(TRL_PPO_STAMP) ## Make the environments of the benchmarks' peers and the losses' oracles, .venv-*

$(BENCH_STAMP): $(STAMP) tests/benchmarks/requirements.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-bench
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-bench/bin/python \
		--requirements tests/benchmarks/requirements.txt
	@touch $@

$(TRL_STAMP) $(TRL_PPO_STAMP): .venv-%/.installed: $(STAMP) tests/benchmarks/requirements-%.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-$*
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-$*/bin/python \
		--requirements tests/benchmarks/requirements-$*.txt
	@touch $@

charts: $(STAMP) ## Lint the Helm chart and test all that it renders (needs no cluster)
	$(BIN)/pytest -n 2 --dist loadfile $(PYTEST_ARGS) tests/charts

check: format-check lint types protos-check buf charts test ## What CI runs

format: $(STAMP) ## Format the code
	$(BIN)/ruff format $(PYTHON_FILES)
	$(BIN)/ruff check --fix --quiet $(PYTHON_FILES)

format-check: $(STAMP) ## Is the code formatted?
	$(BIN)/ruff format --check $(PYTHON_FILES)

lint: $(STAMP) ## Lint the code
	$(BIN)/ruff check $(PYTHON_FILES)

types: $(STAMP) ## Check the types, strictly
	$(BIN)/mypy

protos: $(STAMP) ## Generate the stubs in services/plumbline/v1 from protos/
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=services --pyi_out=services \
		--grpc_python_out=services protos/plumbline/v1/*.proto

protos-check: $(STAMP) ## Do the stubs match protos/?
	@generated=$$(mktemp -d) && trap 'rm -rf "$$generated"' EXIT && \
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out="$$generated" --pyi_out="$$generated" \
		--grpc_python_out="$$generated" protos/plumbline/v1/*.proto && \
	diff -r --exclude=__init__.py --exclude=__pycache__ "$$generated/plumbline/v1" services/plumbline/v1 \
		|| { echo "stubs differ from protos/: run 'make protos'"; exit 1; }

buf: ## Lint the wire contract and look for breaking changes
	@.ci/buf

servers: ## Get the real servers that integration tests start (S3 stores need Go, Redis apt; cached outside the repository)
	@.ci/servers

cluster: ## Build the Kubernetes control plane of test-cluster (needs Go, about 15 minutes once; cached outside the repository)
	@.ci/cluster $(PROGRAMS)

test-cluster: $(STAMP) cluster ## Try the chart and the launcher on a real Kubernetes control plane
	$(BIN)/pytest -s $(PYTEST_ARGS) -m cluster tests/cluster

build/wheels/requirements.txt: requirements.lock pyproject.toml .ci/wheels | $(STAMP)
	@.ci/wheels

wheels: $(STAMP) ## Download what the images install into build/wheels [TORCH_INDEX=...]
	@.ci/wheels

images: build/wheels/requirements.txt ## Build the images with docker, podman or buildah [TARGETS=... TAG=... REGISTRY=...]
	@.ci/images

test-images: $(STAMP) build/wheels/requirements.txt ## Build images on a base of Debian's packages and look into them [TARGETS=...]
	$(BIN)/pytest -s $(PYTEST_ARGS) tests/images

test-node: $(STAMP) build/wheels/requirements.txt ## Run the chart on a real node: containerd, kubelet, images (root; first time half an hour)
	@.ci/cluster etcd kube-apiserver kube-controller-manager kube-scheduler helm kubelet
	@.ci/node
	tests/cluster/node/enter $(BIN)/pytest -s $(PYTEST_ARGS) tests/cluster/node

lock: $(STAMP) ## Resolve the dependencies anew into requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra all --group dev \
		--no-annotate --custom-compile-command "make lock" pyproject.toml --output-file requirements.lock

clean: ## Stop the embedded stack and remove everything that was made
	@[ ! -x $(BIN)/plumbline ] || $(BIN)/plumbline down || true
	rm -rf .venv .venv-bench .venv-trl .venv-trl-ppo .plumbline
