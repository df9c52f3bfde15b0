# Everything is done by two commands: `make run` and `make test`.
PY := .venv/bin/python
PYTEST_ARGS ?=
TEST_JOBS ?= 4
CODE := opensips_py workers ipc scripts tests examples

.DEFAULT_GOAL := help
.PHONY: help run prepare prepare-test test lint format load loss chaos soak scale bench bench-script bench-hostile fuzz golden torture reference clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

prepare:
	@scripts/prepare.sh run

prepare-test:
	@scripts/prepare.sh test

run: prepare ## start the server on 127.0.0.1:5060 with an example script
	@$(PY) -m scripts.demo

test: prepare-test ## install what the tests need, run all tests, several at a time (TEST_JOBS=4)
	@echo "test: $(if $(PYTEST_ARGS),$(PYTEST_ARGS),all tests), $(TEST_JOBS) at a time"
	@$(PY) -m pytest -n $(TEST_JOBS) --dist worksteal $(PYTEST_ARGS)

lint: prepare-test ## style, strict types, import rules
	@echo "lint: style"
	@.venv/bin/ruff check $(CODE)
	@.venv/bin/ruff format --check $(CODE)
	@echo "lint: types"
	@.venv/bin/mypy
	@echo "lint: import rules"
	@.venv/bin/lint-imports

format: prepare-test ## format the code
	@.venv/bin/ruff check --fix-only --quiet $(CODE)
	@.venv/bin/ruff format $(CODE)

load: prepare-test ## calls through async MySQL, HTTP and exec, beside the same without async()
	@$(PY) -m scripts.load $(LOAD_ARGS)

loss: prepare-test ## 500 calls a second without a failed one, and all calls complete when datagrams are lost
	@$(PY) -m scripts.loss $(LOSS_ARGS)

chaos: prepare-test ## a worker is killed every other second: every call gets exactly one answer
	@$(PY) -m scripts.chaos $(CHAOS_ARGS)

soak: prepare-test ## memory over 100,000 calls
	@$(PY) -m scripts.soak $(SOAK_ARGS)

scale: prepare-test ## decisions per second by async(), 50,000 operations parked at once, take-over; eight minutes
	@$(PY) -m scripts.scale $(SCALE_ARGS)

bench: prepare-test ## CPU per request; against Kamailio where ../shared/bench is there
	@if [ -d ../shared/bench ]; then OPENSIPS_PY="$(CURDIR)/.venv/bin/opensips-py" $(PY) ../shared/bench/compare.py $(BENCH_ARGS); \
	else $(PY) -m scripts.bench $(BENCH_ARGS); fi

bench-script: prepare-test ## how long a long script takes to check, and a route beside Python written by hand
	@$(PY) -m scripts.bench_script $(BENCH_ARGS)

bench-hostile: prepare-test ## how the time for hostile input grows with its size; fails on more than n·log n; two minutes
	@$(PY) -m scripts.bench_hostile $(BENCH_ARGS)

fuzz: prepare-test ## feed the readers of network input with anything until Ctrl-C, or FUZZ_ARGS="--seconds 30"
	@$(PY) -m scripts.fuzz $(FUZZ_ARGS)

golden: prepare-test ## replay behaviour recorded from the C server; the share that is as recorded
	@$(PY) -m scripts.golden $(GOLDEN_ARGS)

torture: prepare-test ## RFC 4475 messages, to two scripts
	@$(PY) -m scripts.torture $(TORTURE_ARGS)

reference: prepare ## write docs/reference and docs/migration.md from the declarations in the code
	@$(PY) -m scripts.reference
	@$(PY) -m scripts.migration_page
	@$(PY) -m scripts.command_line_page

clean: ## remove what was made here
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .fuzz .coverage* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
