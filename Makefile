# make demo   train a tiny policy on simulated drives, drive held-out ones, write demo/report.html
# make test   the default test suite, and a smoke subset on Python 3.12 where there is one
# make test-notebooks   executes every notebook
# make test-slow   the tests that take longer, notebooks among them
# make benchmark   a policy from pixels to trajectories, beside the machine's floor and PyTorch; minutes
# make parity REFERENCE_DIR=DIR   compare with recorded values of the released model
#
# Each creates .venv if it is missing and installs what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The first Python 3.12 that starts (a version manager's shim may not).
PYTHON312 := $(shell for p in python3.12 $$HOME/.pyenv/versions/3.12*/bin/python3.12; do \
	"$$p" -c 'import ensurepip' >/dev/null 2>&1 && { command -v "$$p"; break; }; done)
VENV312 := .venv312
INSTALLED312 := $(VENV312)/.installed

.PHONY: demo test test-suite test-smoke test-notebooks test-slow benchmark parity clean

demo: $(INSTALLED)
	$(BIN)/python experiments/pipeline.py --config=configs/tiny.py --workdir=demo
	@echo "Open demo/report.html in a browser."

test: test-suite test-smoke

# Two files at a time: most of a test is compilation, which uses one core.
test-suite: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile

ifeq ($(PYTHON312),)
test-smoke:
	@echo "No Python 3.12 here; the smoke subset is skipped."
else
test-smoke: $(INSTALLED312)
	$(VENV312)/bin/python -m pytest -m smoke
endif

test-notebooks: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 -m "not gpu" tests/colab

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m "slow and not gpu"

benchmark: $(INSTALLED)
	$(BIN)/python experiments/benchmark.py --suite=policy --preset=moderate --workdir=out/benchmark

parity: $(INSTALLED)
	$(BIN)/python experiments/parity.py --reference_dir=$(REFERENCE_DIR) --workdir=out/parity

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

$(INSTALLED312): setup.cfg pyproject.toml
	$(PYTHON312) -m venv $(VENV312)
	$(VENV312)/bin/python -m pip install --quiet --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) $(VENV312) build demo out *.egg-info .pytest_cache
