# Two commands do all the set-up: `make demo` and `make test`. `make` alone lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
NAME ?= octavo
WORKERS ?= 0
# A cluster of your own: make demo CONTEXT=my-context OCTAVO_REGISTRY=… PROMETHEUS_URL=…
CONTEXT ?=
PROMETHEUS_URL ?=
export OCTAVO_REGISTRY
PYTEST_ARGS ?=

# Targets are made in the order in which they are named: what a machine lacks is told first. What `test` has
# AT_ONCE is all there by then.
ifndef AT_ONCE
.NOTPARALLEL:
endif
CHECK = $(PYTHON) -m e2e.cluster.check --venv $(VENV)

.PHONY: needs-python needs-demo needs-test needs-cluster preflight
.PHONY: help demo test test-unit test-e2e test-beside images-e2e lint format docs cluster-up cluster-down images crds reference models ranks suites oracles schemas lock demo-model hostile bench clean

help: ## list the commands
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: needs-demo $(VENV)/.tools ## a real Kubernetes, an LLMDeployment, an answer, load, autoscaling
	@$(PY) -m e2e.demo $(if $(CONTEXT),--context $(CONTEXT)) $(if $(PROMETHEUS_URL),--prometheus-url $(PROMETHEUS_URL))

# On the cluster most time goes by waiting, for nodes, pods and grace periods: the tests without one run meanwhile,
# at a lower priority. What the cluster's part said is shown when both are through.
test: needs-test $(VENV)/.dev ## every test: unit, runtime, operator, and e2e on the real cluster
	@mkdir -p out
	@echo "== cluster octavo-e2e: one control plane, two workers"
	@$(PY) -m e2e.cluster up --name octavo-e2e --workers 2
	@status=0; $(MAKE) --no-print-directory --keep-going -j2 AT_ONCE=1 test-unit test-beside || status=$$?; \
	  cat out/cluster.txt; exit $$status

test-beside:
	@$(MAKE) --no-print-directory --no-keep-going AT_ONCE= images-e2e test-e2e >out/cluster.txt 2>&1 || \
	  { echo "== images or tests on the cluster failed: out/cluster.txt, shown at the end"; exit 1; }

images-e2e:
	@echo "== images: operator and runtime, into the cluster's registry"
	@$(PY) -m images.build operator runtime --push | tee out/images.txt
	@$(PY) -m e2e.cluster pull --name octavo-e2e $$(cut -d= -f2 out/images.txt)

# One process more than there are cores, since some wait for servers; one thread of torch for each.
# PYTEST_ARGS=-n0 is for debuggers.
TEST_PROCESSES ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 7 ? n + 1 : 8)))
test-unit: $(VENV)/.dev ## the tests that need no cluster, as many at once as there are cores
	@echo "== tests without a cluster"
	@mkdir -p out
	@MAKEFLAGS= OMP_NUM_THREADS=1 $(if $(AT_ONCE),nice) $(PY) -m pytest tests suites/cases/test_openai.py \
	  -n $(TEST_PROCESSES) --dist loadfile \
	  --junitxml=out/tests-unit.xml $(PYTEST_ARGS)

test-e2e: $(VENV)/.dev ## the tests on the real cluster alone
	@echo "== tests on the cluster"
	@mkdir -p out
	@$(PY) -m pytest e2e/tests --junitxml=out/tests-e2e.xml $(PYTEST_ARGS)

lint: $(VENV)/.dev ## ruff, mypy --strict, import-linter
	@echo "== ruff"; $(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	@echo "== mypy --strict"; $(VENV)/bin/mypy
	@echo "== import-linter"; $(VENV)/bin/lint-imports

format: $(VENV)/.dev ## let ruff format and mend what it can
	@$(VENV)/bin/ruff format . && $(VENV)/bin/ruff check --fix .

docs: $(VENV)/.dev ## the pages as a site in out/site; a broken link fails
	@$(VENV)/bin/mkdocs build --strict
	@echo "out/site/index.html"

cluster-up: needs-cluster $(VENV)/.tools ## a kind cluster with registry and Prometheus [NAME=octavo WORKERS=0]
	@$(PY) -m e2e.cluster up --name $(NAME) --workers $(WORKERS)

# A bare Python does: what is to go needs none of the packages that made it.
cluster-down: needs-python ## take every cluster down, and the engine if we started it
	@$(PYTHON) -m e2e.cluster.down --all

images: $(VENV)/.tools ## build the operator's and the runtime's image
	@$(PY) -m images.build operator runtime

crds: $(VENV)/.dev ## generate the CRD from the pydantic models
	@$(PY) -m octavo_operator.crd

reference: $(VENV)/.dev ## generate the table of flags from the options
	@$(PY) -m octavo.cli.reference

models: $(VENV)/.dev ## try all causal families of transformers and write the table of models (5 minutes)
	@$(PY) -m tests.support.runtime.family_table
	@$(PY) -m tests.support.runtime.weight_matrix

ranks: $(VENV)/.dev ## every family in 2 and 4 processes against one: all kinds of requests, adapters, drafts (10 minutes)
	@OMP_NUM_THREADS=1 PYTHONPATH=. $(PY) -m tests.support.runtime.ranks_of_families

# [SUITES="openai langchain-chat"]; what there is: python -m suites --list
SUITES ?=
suites: $(VENV)/.dev ## outside clients, frameworks and harnesses against a live server (10 minutes, 1.2 GB)
	@OMP_NUM_THREADS=1 $(PY) -m suites $(SUITES)

oracles: $(VENV)/.dev ## GPTQModel and sentence-transformers against Octavo on the same files (3 minutes, 0.7 GB)
	@$(PY) -m host.side_environment .venv-oracles locks/oracles.txt
	@OCTAVO_REQUIRE=gptqmodel,sentence_transformers PYTHONPATH=runtime:operator TORCHDYNAMO_DISABLE=1 \
	  GPTQMODEL_CPU_WORKERS=2 OMP_NUM_THREADS=1 .venv-oracles/bin/python -m pytest -q tests/runtime/quantization/test_gptqmodel.py tests/runtime/test_published_encoder.py

schemas: $(VENV)/.dev ## answers by public JSON schemas, forced calls by random ones, judged by jsonschema (6 minutes, 10 MB)
	@$(PY) -m host.side_environment .venv-schemas locks/schemas.txt
	@$(PY) -m host.locked_archives out/schemas locks/schema-archives.txt .venv-schemas/bin/python
	@OCTAVO_REQUIRE=json_schema_suite OMP_NUM_THREADS=1 $(PY) -m pytest -q -rP tests/runtime/engine/test_public_schemas.py
	@OMP_NUM_THREADS=1 $(PY) -m tests.support.runtime.forced_calls --schemas 40

hostile: $(VENV)/.dev ## 50,000 hostile requests against a server on loopback [REQUESTS=50000 API_SERVERS=1]
	@OMP_NUM_THREADS=1 $(PY) -m tests.support.runtime.hostile --requests $(or $(REQUESTS),50000) \
	  --api-server-count $(or $(API_SERVERS),1)

demo-model: $(VENV)/.dev ## train builtin://demo anew (40 minutes on 2 cores) and evaluate it
	@$(PY) -m training.demo_model.train
	@$(PY) -m training.demo_model.evaluate

bench: $(VENV)/.dev ## the CPU benchmarks, as ratios to transformers in the same run
	@$(PY) -m benchmarks.cpu

# Resolved for x86_64; on aarch64 the same pins come out, and the hashes are of the wheels of both.
UV_COMPILE := $(VENV)/bin/uv pip compile --python-version 3.11 \
  --python-platform x86_64-unknown-linux-gnu --generate-hashes --no-annotate --no-header --quiet
lock: $(VENV)/.tools ## resolve the dependencies anew into locks/ and images/tools.txt
	@echo "== locks/dev.txt"; $(UV_COMPILE) pyproject.toml --extra operator --extra runtime --extra dev --extra oracles --extra docs -o locks/dev.txt
	@echo "== locks/operator.txt"; $(UV_COMPILE) pyproject.toml --extra operator -c locks/dev.txt -o locks/operator.txt
	@echo "== locks/runtime.txt"; $(UV_COMPILE) pyproject.toml --extra runtime -c locks/dev.txt -o locks/runtime.txt
	@echo "== locks/tools.txt"; $(UV_COMPILE) pyproject.toml --extra dev -c locks/dev.txt -o locks/tools.txt
	@echo "== locks/suites.txt"; $(UV_COMPILE) suites/requirements.in --override suites/overrides.txt \
	  -c <(grep -oE '^(transformers|tokenizers|safetensors|numpy|huggingface-hub|pydantic)==[^ ]+' locks/dev.txt) -o locks/suites.txt
	@echo "== locks/oracles.txt"; $(UV_COMPILE) locks/oracles.in \
	  --override <(echo "torch; python_version < '3'") -c locks/dev.txt -o locks/oracles.txt
	@echo "== locks/schemas.txt"; $(UV_COMPILE) locks/schemas.in -c locks/dev.txt -o locks/schemas.txt
	@echo "== images/tools.txt"; $(UV_COMPILE) images/tools.in -c locks/dev.txt -o images/tools.txt

preflight: needs-test ## tell what this machine lacks for make test, before anything is fetched

needs-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  found="$$($(PYTHON) --version 2>/dev/null || true)"; \
	  echo "Python 3.11 or later is needed; PYTHON=$(PYTHON) is $${found:-none at all}. Set PYTHON=python3.11."; \
	  exit 1; }

# A cluster of your own needs none of it.
needs-demo: needs-python
	@$(if $(CONTEXT),true,$(CHECK) demo)

needs-test: needs-python
	@$(CHECK) test --name octavo-e2e --workers 2

needs-cluster: needs-python
	@$(CHECK) cluster --name $(NAME) --workers $(WORKERS)

clean: ## remove what the build made here (clusters and caches stay: make cluster-down)
	@rm -rf $(VENV) .venv-suites .venv-oracles .venv-schemas suites/js/node_modules out dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# The tools alone (no torch): what make demo, cluster-up and images need.
$(VENV)/.tools: locks/tools.txt | needs-python
	@echo "== Python environment $(VENV): tools (some 60 packages: half a minute, minutes on a busy machine)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/tools.txt
	@touch $@

# Everything, torch included, and the project itself in editable form. Compiled at once: torch imports in 2 s
# then, and in 9 s where Python may not write its own .pyc files.
$(VENV)/.dev: locks/dev.txt pyproject.toml $(VENV)/.tools
	@echo "== Python environment $(VENV): all dependencies (torch and its libraries: about 6 GB)"
	@$(VENV)/bin/uv pip install --quiet --python $(PY) --require-hashes --compile-bytecode -r locks/dev.txt
	@$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps -e .
	@touch $@
