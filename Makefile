# The newcomer's two commands are `make demo` and `make test`; both make their own virtual environment first.
.SUFFIXES:
.DEFAULT_GOAL := help
PYTHON ?= python3
MINUTES ?= 10
VENV := .venv
BIN := $(VENV)/bin
# Newer than the lock when all of it is installed.
STAMP := $(VENV)/.installed

.PHONY: help demo test test-unit image-test check format docs lock package bench bench-image bench-corpus bench-dependencies bench-gateway bench-logs bench-upload soak clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "buildrunner needs Python 3.11 or newer. Install it, or name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## build examples/react-app on local servers and serve it
	@$(BIN)/python -m buildrunner dev examples/react-app

test: $(STAMP) ## unit and system tests (image-test runs those of the container)
	@$(BIN)/python -m pytest -n 3 --dist loadfile # for two cores: half of its time is waiting for promised time limits

test-unit: $(STAMP) ## unit tests alone, in under a minute
	@$(BIN)/python -m pytest -n 2 tests/unit

image-test: $(STAMP) ## the image, run by a Docker engine as Fargate would (starts an engine where there is none)
	@tests/image/with-engine.sh $(BIN)/python -m pytest tests/image

check: $(STAMP) ## format, lint, types, imports, Dockerfile, shell scripts, workflows
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/actionlint .github/workflows/*.yml
	@$(BIN)/hadolint Dockerfile
	@git ls-files '*.sh' .ci/run | xargs $(BIN)/shellcheck

format: $(STAMP) ## fix what ruff can fix
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

docs: $(STAMP) ## write the generated tables of docs/ again
	@$(BIN)/python docs/generate.py

lock: ## resolve the dependencies again into the two lock files (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --quiet --no-annotate --no-header --no-emit-index-url --no-emit-find-links --output-file requirements-runtime.lock
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --quiet --no-annotate --no-header --no-emit-index-url --no-emit-find-links --extra dev --group all --group build --constraints requirements-runtime.lock --output-file requirements.lock

bench: $(STAMP) ## what is measured, as ratios against named peers
	@$(BIN)/python bench/overhead.py
	@PYTHONPATH=tests $(BIN)/python bench/upload.py

bench-logs: $(STAMP) ## what the log costs, and how soon its lines are there
	@PYTHONPATH=tests $(BIN)/python bench/logs.py

bench-gateway: $(STAMP) ## 1,000 viewers of one build, 200 builds at once, 100,000 viewers that leave
	@PYTHONPATH=tests $(BIN)/python bench/gateway.py

bench-dependencies: $(STAMP) ## installs with cached dependencies, against `npm ci` (needs the npm registry)
	@PYTHONPATH=tests $(BIN)/python bench/dependencies.py

bench-upload: $(STAMP) ## how fast a site gets into S3, against s5cmd, rclone and aws s3 sync
	@PYTHONPATH=tests $(BIN)/python bench/upload.py

bench-corpus: $(STAMP) ## public repositories, built one after the other (MIRROR=folder, ONLY=pattern, RESUME=1)
	@PYTHONPATH=tests $(BIN)/python bench/corpus.py $(if $(MIRROR),--mirror $(MIRROR)) $(if $(ONLY),--only $(ONLY)) $(if $(RESUME),--resume)

soak: $(STAMP) ## runs with faults at random, for MINUTES (10), from a printed SEED
	@PYTHONPATH=tests $(BIN)/python bench/soak.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

bench-image: $(STAMP) ## size, start and memory of the image
	@PYTHONPATH=tests tests/image/with-engine.sh $(BIN)/python bench/image.py

package: $(STAMP) ## a wheel and an sdist in dist/
	@$(BIN)/python -m build --no-isolation --outdir dist

clean: ## remove what these commands made here
	rm -rf $(VENV) dist .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
