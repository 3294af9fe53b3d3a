# Everything a contributor runs. `make` alone lists the targets.
# Needs Python 3.11 (with venv), git and make; what else a target needs it installs by itself.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# uv from PATH, or a copy of our own in .tools (a virtual environment of the system's Python).
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
RUN := $(UV) run --no-sync
PYTHON ?= python3
# The generated tables of docs/*.md; and what the last runs of faults and fuzzing have said, into them.
GENERATE := PYTHONPATH=docs:tests $(RUN) python -m generator
KEEP_TABLE := PYTHONPATH=tests $(RUN) python -m support.fault_table && $(GENERATE)
# Two workers even on a large machine: the tests share one cluster, and it is the bottleneck.
WORKERS ?= 2
PYTEST := $(RUN) pytest -n $(WORKERS) --dist worksteal

# One line a step, with what to try when it fails: $(call step,what it does,command,what to try)
define step
	@start=$$SECONDS; printf '==> %s\n' '$(1)'; \
	if $(2); then printf '    done in %ss\n' $$((SECONDS - start)); \
	else code=$$?; printf '\nFAILED: %s\n  try: %s\n' '$(1)' '$(3)' >&2; exit $$code; fi
endef

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | \
	  while IFS=$$'\t' read -r name text; do printf '  make %-16s %s\n' "$$name" "$$text"; done

.tools/bin/uv:
	$(call step,Install uv into .tools,$(PYTHON) -m venv .tools && .tools/bin/python -m pip install --quiet uv,install the venv module of Python 3.11 (Debian: python3-venv) and check that the package index is reachable)

.PHONY: setup
setup: $(filter .tools/bin/uv,$(UV)) ## Install the locked dependencies into .venv
	$(call step,Install the locked dependencies,$(UV) sync --quiet --locked --all-packages --all-groups,uv lock (if you changed a pyproject.toml) or check that the package index is reachable)

.PHONY: test
test: lint unit integration ## Lint, types, unit, integration and e2e tests

.PHONY: lint
lint: setup ## Formatting, lint, types, layering
	$(call step,Check the formatting,$(RUN) ruff format --check --quiet .,make format)
	$(call step,Lint,$(RUN) ruff check --quiet .,make format; then read the rule with: $(RUN) ruff rule CODE)
	$(call step,Check the types,$(RUN) mypy --no-error-summary engine/mdb_engine kubectl-mdb/kubectl_mdb operator/mdb_operator operator/image/prune.py operator/image/root.py release/mdb_release tests/cluster/devcluster charts/mdb-operator/files,$(RUN) mypy PATH)
	$(call step,Check the types of tests and docs,MYPYPATH=docs $(RUN) mypy --no-error-summary --exclude "/user_code\.py" $(addprefix tests/,unit integration e2e journeys support bench soak) docs/generator,MYPYPATH=docs $(RUN) mypy PATH)
	$(call step,Check the types of the examples,MYPYPATH=examples/multi_app:examples/multi_app/demo $(RUN) mypy --no-error-summary examples/multi_app && $(RUN) mypy --no-error-summary examples/simple_app && $(RUN) mypy --no-error-summary examples/beanie_app,MYPYPATH=examples/multi_app:examples/multi_app/demo $(RUN) mypy examples/multi_app)
	$(call step,Check the workflows,PYTHONPATH=release $(RUN) python -m mdb_release lint-workflows,read docs/releasing.md)
	$(call step,Check the layers,$(RUN) lint-imports --no-logo > /dev/null || $(RUN) lint-imports,move the import that points upwards)

.PHONY: format
format: setup ## Format the code and mend what the linter can
	@$(RUN) ruff format . && $(RUN) ruff check --fix .

.PHONY: unit
unit: setup ## Tests that need neither MongoDB nor Kubernetes
	$(call step,Run the unit tests,$(PYTEST) tests/unit,$(RUN) pytest -x --lf tests/unit)

.PHONY: prepare
prepare: setup ## Install and compile what the tests need beside Python (minutes, once)
	@$(RUN) devcluster prepare

.PHONY: integration
integration: prepare ## Tests on a real MongoDB and a real Kubernetes, pods included
	$(call step,Run the integration and e2e tests that are quick,$(PYTEST) -m "not long and not faults" tests/integration tests/e2e,$(RUN) pytest -x --lf -m "not long and not faults" tests/integration tests/e2e; and: $(RUN) devcluster status)

.PHONY: test-long
test-long: prepare ## The tests that `make test` leaves out, as they take long; CI runs them
	@$(RUN) devcluster prepare --also promtool --also kstatus
	$(call step,Run the tests that take long,$(PYTEST) -m "long and not faults" tests/integration tests/e2e,$(RUN) pytest -x --lf -m long tests/integration tests/e2e; and: $(RUN) devcluster status)

.PHONY: test-journeys
test-journeys: prepare ## The demo, Docker Compose and the quickstart, from nothing, as documents say
	$(call step,Run what the documents say from nothing,$(RUN) pytest -n 0 tests/journeys,$(RUN) pytest -n 0 -x --lf tests/journeys)

FAULTS := $(addprefix tests/integration/,$(addprefix operator/test_,faults.py kill_points.py clocks.py outages.py two_operators.py elections.py readers.py restore_elsewhere.py soak.py full_disk.py real_pods.py) engine/key_managers/test_rewrap.py)
.PHONY: test-faults
test-faults: prepare ## Let every call of the operator fail in every way, and more (`make test-long`: a sample)
	$(call step,Let everything fail that can,MDB_ALL_FAULTS=1 MDB_FAULT_TABLE=1 $(PYTEST) $(FAULTS),MDB_ALL_FAULTS=1 $(RUN) pytest -x --lf $(FAULTS))
	@$(KEEP_TABLE)

fuzz: MINUTES ?= 10
.PHONY: fuzz
fuzz: setup ## Fuzz queries, updates and pipelines by coverage, for MINUTES; what is found is in build/fuzz
	@mkdir -p build/fuzz && PYTHONPATH=tests $(UV) run --no-sync --with atheris==3.0.0 python tests/fuzz/rewriter.py \
	  -max_total_time=$$(( $(MINUTES) * 60 )) -max_len=600 -len_control=10 -artifact_prefix=build/fuzz/
	@$(KEEP_TABLE)

fuzz-http: MINUTES ?= 2
.PHONY: fuzz-http
fuzz-http: setup ## Fuzz what the examples answer over HTTP, from their own descriptions, for MINUTES
	@PYTHONPATH=tests $(UV) run --no-sync --with schemathesis==4.32.5 python tests/fuzz/answers.py $$(( $(MINUTES) * 60 ))
	@$(KEEP_TABLE)

fuzz-manifests fuzz-annotations fuzz-bindings: MINUTES ?= 10
.PHONY: fuzz-manifests
fuzz-manifests: prepare ## Fuzz the operator with specs of the CRD's own schema, for MINUTES
	@PYTHONPATH=tests $(RUN) python tests/fuzz/manifests.py $$(( $(MINUTES) * 60 ))
	@$(KEEP_TABLE)

.PHONY: fuzz-annotations
fuzz-annotations: prepare ## Fuzz it with annotations, labels and statuses, for MINUTES
	@PYTHONPATH=tests $(RUN) python tests/fuzz/annotations.py $$(( $(MINUTES) * 60 ))
	@$(KEEP_TABLE)

.PHONY: fuzz-bindings
fuzz-bindings: setup ## Fuzz the library with what is no mounted binding, for MINUTES
	@PYTHONPATH=tests $(RUN) python tests/fuzz/bindings.py $$(( $(MINUTES) * 60 ))
	@$(KEEP_TABLE)

.PHONY: kind
kind: setup ## The e2e tests on kind, where the machine has an engine or can have one
	@if [ -n "$${DEVCLUSTER:-}" ]; then echo "==> Nothing more on kind: DEVCLUSTER=$$DEVCLUSTER"; \
	elif reason=$$($(RUN) devcluster engine check 2>&1); then $(MAKE) --no-print-directory test-kind; \
	else printf '==> NOT TESTED on kind: %s\n' "$$reason"; fi

.PHONY: test-kind
test-kind: setup ## The e2e tests on a cluster of kind's (with an engine of its own where there is none)
	@DEVCLUSTER=kind $(RUN) devcluster prepare
	$(call step,Run the e2e tests on kind,env -u DEVCLUSTER_NAME DEVCLUSTER=kind $(PYTEST) tests/e2e,DEVCLUSTER=kind $(RUN) pytest -x --lf tests/e2e; and: DEVCLUSTER=kind $(RUN) devcluster status)

# 1.34 is what `make test` runs on; devcluster/build.py says which others there are.
MINORS ?= 1.37
MINOR_TESTS := tests/integration/operator tests/integration/chart tests/e2e
.PHONY: test-minors
test-minors: setup ## What depends on Kubernetes, pods included, once more on each other minor
	@for minor in $(MINORS); do $(MAKE) --no-print-directory test-minor-$$minor; done
test-minor-%: export DEVCLUSTER := node
test-minor-%: export DEVCLUSTER_KUBERNETES = $*
test-minor-%: setup
	@$(RUN) devcluster prepare
	$(call step,Run the tests that depend on Kubernetes on $*,$(PYTEST) -m "not faults" $(MINOR_TESTS),DEVCLUSTER=node DEVCLUSTER_KUBERNETES=$* $(RUN) pytest -x --lf $(MINOR_TESTS))

# Of the tests' own tools the newest, so that only what the library itself declares is old.
LOWEST := .tools/lowest
LOWEST_NEEDS := -e 'engine[aws,azure,casbin,fastapi,gcp,motor,transit]' -e tests/cluster httpx hypothesis kubernetes pytest pytest-asyncio pytest-timeout pytest-xdist pyyaml rich structlog
.PHONY: minimums
minimums: setup ## Unit tests of the library on the lowest versions that it declares
	$(call step,Install the lowest versions into $(LOWEST),$(UV) pip compile --quiet --resolution lowest-direct --all-extras --no-emit-package mdbapp-engine --no-header --no-annotate engine/pyproject.toml -o $(LOWEST).txt > /dev/null && $(UV) venv --quiet --clear $(LOWEST) && $(UV) pip install --quiet --python $(LOWEST) -c $(LOWEST).txt $(LOWEST_NEEDS),raise the minimum in engine/pyproject.toml that cannot be resolved)
	$(call step,Run the unit tests on them,$(LOWEST)/bin/python -m pytest -q -n $(WORKERS) -p no:cacheprovider --confcutdir=tests/unit/engine tests/unit/engine --ignore=tests/unit/engine/scoped,raise the minimum in engine/pyproject.toml that lacks what the library uses)

# 3.11 is what `make test` runs on. uv takes those of this machine, pyenv's too, and else downloads them.
PYTHONS ?= 3.11 3.12 3.13
test-python-% run-python-%: export PATH := $(PATH)$(shell printf ':%s' $(wildcard $(HOME)/.pyenv/versions/*/bin))
.PHONY: test-pythons
test-pythons: setup ## Unit tests of the library and the plugin on each Python that is supported
	@for version in $(PYTHONS); do $(MAKE) --no-print-directory test-python-$$version; done

# The locked versions, in an environment of their own.
ON_PYTHON = UV_PROJECT_ENVIRONMENT=.tools/python-$* $(UV) run --locked --quiet --python $* --exact
test-python-%: setup
	@if $(UV) python find --quiet $* > /dev/null || $(UV) python install --quiet $* 2> /dev/null; then \
	  $(MAKE) --no-print-directory run-python-$*; \
	else printf '==> NOT TESTED on Python %s: it is not on this machine, and cannot be downloaded\n' $*; \
	  [ -z "$${CI:-}" ]; fi
run-python-%:
	$(call step,Run the unit tests on Python $*,$(ON_PYTHON) --all-packages --group dev pytest -q -n $(WORKERS) -p no:cacheprovider tests/unit/engine tests/unit/operator,$(ON_PYTHON) --all-packages pytest -x tests/unit/engine)

.PHONY: audit
audit: setup ## Known vulnerabilities in what the products need (asks a service of the internet)
	@PYTHONPATH=release $(RUN) python -m mdb_release audit

# Where the image's base comes from: registry, debian, or auto for whatever can be had.
BASE ?= auto
RELEASE := PYTHONPATH=release $(RUN) python -m mdb_release
.PHONY: release
release: setup ## Everything that is published of this commit, into dist: make release VERSION=1.2.3
	@$(RELEASE) all "$(VERSION)" --base $(BASE) --repository "$(REPOSITORY)" $(addprefix --image ,$(IMAGES))

.PHONY: release-image
release-image: setup ## The image for this machine's platform alone, into build/images
	@$(RELEASE) image "$(VERSION)" --base $(BASE) --out build/images

.PHONY: test-release
test-release: prepare ## Build a release twice, install it in an empty environment and on a cluster
	$(call step,Build and install a release,$(RUN) pytest -n 0 tests/release,$(RUN) pytest -n 0 -x --lf tests/release)

.PHONY: site
site: setup ## The documentation as a site, into build/site; every link is checked
	$(call step,Build the site,NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict --quiet,$(RUN) mkdocs build --strict)

.PHONY: site-serve
site-serve: setup ## The site on http://127.0.0.1:8000, as the documents are being written
	@$(RUN) mkdocs serve

.PHONY: site-publish
site-publish: setup ## The site of a version to the branch gh-pages: make site-publish VERSION=1.2.3
	@$(RUN) mike deploy --push --update-aliases "$(VERSION)" latest && $(RUN) mike set-default --push latest

.PHONY: bench
bench: setup ## What the library costs an operation, against a plain client, in a minute
	@PYTHONPATH=tests $(RUN) python -m bench --short $(BENCH)

.PHONY: bench-full
bench-full: setup ## The same in eight minutes, with many pods; writes docs/benchmarks.json and its tables
	@PYTHONPATH=tests $(RUN) python -m bench --write now $(BENCH)
	@$(GENERATE)
	@$(MAKE) --no-print-directory bench-operator

APPS ?= 100 1000
.PHONY: bench-operator
bench-operator: prepare ## What apps cost the operator, by their number (APPS="100 1000", WRITE=--write: into docs)
	@PYTHONPATH=tests $(RUN) python -m bench.operator_scale $(WRITE) $(APPS)
	@$(GENERATE)

.PHONY: soak
soak: setup ## 2,000 starts and stops of the library's engine, cancelled at random: nothing is left
	@PYTHONPATH=tests $(RUN) python -m support.lifetime 2000

soak-operator: MINUTES ?= 30
.PHONY: soak-operator
soak-operator: prepare ## 200 apps and 20 pods through random changes and kills, for MINUTES (WRITE=--write: into docs)
	@PYTHONPATH=tests $(RUN) python -m soak $(MINUTES) $(WRITE)
	@$(GENERATE)

.PHONY: crds
crds: setup ## Write the CRD from the models
	$(call step,Write the CRD to crds and to the chart,$(RUN) python -c 'from pathlib import Path; from mdb_operator.crd.render import write_crds; write_crds(Path.cwd())',$(RUN) mdb-operator crds)

.PHONY: docs
docs: setup ## Write the tables of the documentation from the code
	$(call step,Write the tables of docs/*.md,$(GENERATE),$(RUN) pytest tests/unit/docs)

.PHONY: demo
demo: setup ## Two example apps in pods of a real cluster, from nothing; leaves them running
	@$(RUN) python examples/multi_app/demo up

.PHONY: demo-down
demo-down: setup ## Remove the demo
	@$(RUN) python examples/multi_app/demo down

.PHONY: screenshots
screenshots: prepare ## Take the README's pictures anew
	@MDB_SCREENSHOTS=1 $(RUN) pytest -q tests/e2e/test_browser.py -k pictures

.PHONY: clean
clean: ## Remove what the tools left in the checkout (not the cluster's binaries in the cache)
	@rm -rf .venv .tools .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
