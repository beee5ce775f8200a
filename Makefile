# Two words: `make run` does the main job on embedded data, `make test` runs the tests.
# Each makes its own virtual environment, empty at first, from the pins in constraints.txt.

OLDEST := 3.11
comma := ,
# The first Python that is new enough; `make PYTHON=/path/to/python3` decides otherwise.
PYTHON ?= $(or $(firstword $(foreach p,python3 python3.11 python3.12 python3.13 python3.14 python,\
            $(shell $(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null))),python3)
ifneq ($(filter-out clean links,$(or $(MAKECMDGOALS),run)),)
ifneq ($(shell $(PYTHON) -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null),True)
$(error tracesift needs Python $(OLDEST) or newer, but '$(PYTHON)' is $(or $(shell $(PYTHON) -V 2>/dev/null),not there); \
install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11)
endif
endif
EXTRA ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
WORKSPACE ?= tracesift-work
INSTALL = $(PYTHON) -m venv --clear $(1) \
	&& $(1)/bin/python -m pip install --quiet --constraint constraints.txt setuptools \
	&& $(1)/bin/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[$(2)]' \
	&& touch $(1)/installed

.PHONY: run test lint bench docs links clean
run: .venv/run/installed
	.venv/run/bin/tracesift curate digits --workspace $(WORKSPACE) --evaluate

test: .venv/test/installed links
	.venv/test/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: .venv/test/installed links
	.venv/test/bin/ruff format --check .
	.venv/test/bin/ruff check .
	.venv/test/bin/mypy

bench: .venv/test/installed
	.venv/test/bin/python benchmarks/run.py

docs: .venv/test/installed
	.venv/test/bin/python docs/generate.py

# mypy and pyright cannot read the mapping of five root folders to one package; an ignored folder of links can.
links:
	@mkdir -p .links/tracesift
	@for d in catalog flows pipelines scorers selectors; do ln -sfn ../../$$d .links/tracesift/$$d; done

.venv/run/installed: constraints.txt pyproject.toml
	@echo "Installing into .venv/run (a few minutes the first time)" >&2
	@$(call INSTALL,.venv/run,$(EXTRA))

.venv/test/installed: constraints.txt pyproject.toml
	@echo "Installing into .venv/test (a few minutes the first time)" >&2
	@$(call INSTALL,.venv/test,$(EXTRA)$(comma)test)

clean:
	rm -rf .venv .links build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
