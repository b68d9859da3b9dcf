# Everything this project does, one word each. What a target needs it brings along, into one cache directory
# ($KUBEDR_CACHE, else ~/.cache/kubedr) and never into the repository; the second run finds it there.

PYTHON ?= python3
CACHE  := $(or $(KUBEDR_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kubedr)
LOCKED := $(shell { cat requirements/dev.txt; $(PYTHON) -V; } | sha256sum | cut -c1-12)
VENV   := $(CACHE)/venv-$(LOCKED)
UV     := $(CACHE)/uv/bin/uv
RUN    := $(VENV)/bin/python -m

export PATH       := $(VENV)/bin:$(CACHE)/bin:$(PATH)
export PYTHONPATH := src
.DELETE_ON_ERROR:
.PHONY: help lint crds docs test soak up down env demo e2e image bench lock

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {gsub(/[$$]+/, "$$"); printf "make %-6s  %s\n", $$1, $$2}' Makefile

lint: $(VENV)/complete ## style, import directions, types
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(VENV)/bin/lint-imports
	$(RUN) mypy

crds: $(VENV)/complete ## write the CustomResourceDefinitions from the models
	$(RUN) kubedr_ctrl.api.crd manifests/crds
	$(RUN) kubedr_ctrl.api.crd charts/kubedr/files/crds

docs: crds ## write all that is generated: CustomResourceDefinitions, manifests, tables in docs/, what kubectl says
	$(RUN) e2e tools
	$(RUN) tests.chart.readme charts/kubedr
	$(RUN) tests.chart.schema charts/kubedr
	$(RUN) tests.chart.manifests manifests
	$(RUN) tests.unit.reference
	$(RUN) tests.integration.controller.kubectl_page

test: lint ## lint, then unit and integration tests (a real API server, etcd, restic and S3; no containers)
	$(RUN) e2e tools
	$(RUN) pytest tests --numprocesses=3 --dist=loadfile

soak: $(VENV)/complete ## backups and faults at random, then an audit of what is told: make soak MINUTES=10 (SEED=…)
	$(RUN) e2e tools
	$(RUN) soak

up: $(VENV)/complete ## a Kubernetes cluster with an S3 server and the controller; stays until `make down`
	$(RUN) e2e up

down: $(VENV)/complete ## take it all away again
	$(RUN) e2e down

env: $(VENV)/complete ## how to reach it: eval "$$(make -s env)"
	@$(RUN) e2e env

demo: $(VENV)/complete ## a backup, a disaster and a restore before your eyes, on a cluster of its own or the one that is up
	$(RUN) e2e.demo

e2e: $(VENV)/complete ## the stories of e2e/stories, then the image by itself and a disaster, likewise
	$(RUN) e2e with sh -c '$(RUN) pytest e2e/stories --timeout=900 --numprocesses=4 && $(RUN) pytest e2e/image e2e/disaster --timeout=900'

image: $(VENV)/complete ## build the container image from the Containerfile
	$(RUN) e2e image

bench: $(VENV)/complete ## measure
	$(RUN) e2e tools
	$(RUN) bench

lock: $(UV) ## pin every dependency by hash, from pyproject.toml
	$(UV) pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command 'make lock' -o requirements/runtime.txt
	$(UV) pip compile -q pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command 'make lock' -c requirements/runtime.txt -o requirements/dev.txt
	$(UV) pip compile -q requirements/audit.in --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command 'make lock' -o requirements/audit.txt
	$(UV) pip compile -q requirements/image.in --universal --python-version 3.13 --generate-hashes \
		--custom-compile-command 'make lock' -o requirements/image.txt

# Debian ships Python without the part that makes virtual environments.
$(VENV)/complete:
	@echo "installing the locked dependencies into $(VENV)"
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv; }
	@$(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/pip install -q --require-hashes -r requirements/dev.txt
	@touch $@

$(UV):
	@$(PYTHON) -m venv $(CACHE)/uv && $(CACHE)/uv/bin/pip install -q uv
