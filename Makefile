# The newcomer's two commands are `make demo` and `make test`; both make their own virtual environment first.
.SUFFIXES:
.DEFAULT_GOAL := help
PYTHON ?= python3
MINUTES ?= 10
VENV := .venv
BIN := $(VENV)/bin
# Where it is set, as in many containers, each worker and program of the tests compiles all of its modules again.
unexport PYTHONDONTWRITEBYTECODE
# Newer than the lock file once everything in it is installed; the demo needs a fraction of it.
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-demo

.PHONY: help demo test test-unit image-test check check-template format docs lock package bench bench-image bench-corpus bench-dependencies bench-fleet bench-gateway bench-logs bench-sites bench-upload soak clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

define check-python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "buildrunner needs Python 3.11 or newer. Install it, or name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
endef

$(STAMP): requirements.lock pyproject.toml
	$(check-python)
	@$(PYTHON) scripts/install.py $(VENV) requirements.lock
	@touch $@ $(DEMO_STAMP)

$(DEMO_STAMP): requirements-demo.lock pyproject.toml
	$(check-python)
	@$(PYTHON) scripts/install.py $(VENV) requirements-demo.lock --use-installed-node
	@touch $@

demo: $(DEMO_STAMP) ## build examples/react-app on local servers and serve the site
	@$(BIN)/python -m buildrunner dev examples/react-app

test: $(STAMP) ## run the unit and system tests (image-test tests the container)
	@$(BIN)/python -m pytest -n 6 --dist loadfile --no-loadscope-reorder # more workers than cores: many tests wait for time limits

test-unit: $(STAMP) ## run only the unit tests, in about a minute
	@$(BIN)/python -m pytest -n 4 tests/unit # more workers than cores: some tests wait for processes

image-test: $(STAMP) ## test the image in a Docker engine, as Fargate runs it (starts an engine if there is none)
	@tests/image/with-engine.sh $(BIN)/python -m pytest tests/image

check: $(STAMP) ## check format, lint, types, imports, Dockerfile, shell scripts and workflows
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/actionlint .github/workflows/*.yml deploy/push-image.yml
	@$(BIN)/hadolint Dockerfile
	@git ls-files '*.sh' .ci/run | xargs $(BIN)/shellcheck

# checkov pins a hundred packages of its own, so it has an environment of its own.
check-template: .cache/checkov/bin/checkov ## check deploy/cloudformation.yaml against checkov's rules
	@$< --file deploy/cloudformation.yaml --config-file deploy/checkov.yaml --compact --quiet --skip-download

.cache/checkov/bin/checkov:
	@$(PYTHON) -m venv .cache/checkov
	@.cache/checkov/bin/python -m pip install --quiet --disable-pip-version-check checkov==3.3.30

format: $(STAMP) ## format and fix what ruff can fix
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

docs: $(STAMP) ## regenerate the tables in docs/
	@$(BIN)/python docs/generate.py
	@PYTHONPATH=tests $(BIN)/python -m support.troubleshooting

COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --quiet --no-annotate --no-header --no-emit-index-url --no-emit-find-links

lock: ## resolve the dependencies again and write the three lock files (needs uv)
	$(COMPILE) --output-file requirements-runtime.lock
	$(COMPILE) --extra dev --extra node --group build --constraints requirements-runtime.lock --output-file requirements-demo.lock
	$(COMPILE) --extra dev --extra node --group all --constraints requirements-demo.lock --output-file requirements.lock

bench: $(STAMP) ## measure whole builds and uploads against other tools
	@$(BIN)/python bench/overhead.py
	@PYTHONPATH=tests $(BIN)/python bench/upload.py

bench-logs: $(STAMP) ## measure the log: throughput, delay, memory and CPU
	@PYTHONPATH=tests $(BIN)/python bench/logs.py

bench-gateway: $(STAMP) ## measure the gateway: 1,000 viewers of a build, 200 builds, 100,000 viewers that leave
	@PYTHONPATH=tests $(BIN)/python bench/gateway.py

bench-sites: $(STAMP) ## measure `sites` against a Node proxy and nginx (needs wrk, nginx, node and the npm registry)
	@PYTHONPATH=tests $(BIN)/python bench/sites.py

bench-fleet: $(STAMP) ## measure 50 builds at once on one Valkey and one S3 server, and simulate a queue
	@PYTHONPATH=tests $(BIN)/python bench/fleet.py
	@$(BIN)/python bench/fair_queue.py

bench-dependencies: $(STAMP) ## measure the dependency cache against `npm ci` (needs the npm registry)
	@PYTHONPATH=tests $(BIN)/python bench/dependencies.py

bench-upload: $(STAMP) ## measure uploads against s5cmd, rclone and aws s3 sync
	@PYTHONPATH=tests $(BIN)/python bench/upload.py

bench-corpus: $(STAMP) ## build public repositories and check the results (MIRROR=folder, ONLY=pattern, RESUME=1)
	@PYTHONPATH=tests $(BIN)/python bench/corpus.py $(if $(MIRROR),--mirror $(MIRROR)) $(if $(ONLY),--only $(ONLY)) $(if $(RESUME),--resume)

soak: $(STAMP) ## run builds with random faults for MINUTES (10), from a printed SEED
	@PYTHONPATH=tests $(BIN)/python bench/soak.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

bench-image: $(STAMP) ## measure the image: size, start and memory
	@PYTHONPATH=tests tests/image/with-engine.sh $(BIN)/python bench/image.py

package: $(STAMP) ## build a wheel and an sdist in dist/
	@$(BIN)/python -m build --no-isolation --outdir dist

clean: ## remove everything that these commands created
	rm -rf $(VENV) dist .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
