# FedSCA Label. On a machine with git, make and Python 3.11 or newer:
#   make demo    set everything up, then run the whole loop with virtual hospitals (DATA=folder for your own)
#   make test    set everything up, then run the tests
#   make workstation   segment in the browser: SERVER=URL of a hospital's server, or STUDIES=folder of images to start one here
#   make check   everything that must hold before a commit
# `make help` lists the rest.

PYTHON ?= python3
VENV   ?= .venv
# Extra options for pip, e.g. PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu" for a small CPU build of torch.
PIP_FLAGS ?=
# The demo's options: DATA=DIR (folder of hospitals), OUT=DIR, KEEP=1 (leave the servers up), ARGS="..." (anything `fedsca demo` takes).
DATA ?=
OUT  ?=
KEEP ?=
ARGS ?=
# The workstation's options: SERVER=URL or STUDIES=DIR (with neither: the server used last), PORT=8200, ARGS="--conf image_size 128".
SERVER  ?=
STUDIES ?=
PORT    ?= 8200

BIN := $(abspath $(VENV))/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUN := PATH="$(BIN):$$PATH"
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_WORKSTATION := $(VENV)/.installed-workstation

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo workstation tables test lint format types imports check fuzz faults attacks doctor clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(INSTALLED) ## create .venv and install what the product runs on (about 2.3 GB)

setup-dev: $(INSTALLED_DEV) ## the same, and what tests and checks need

# A stamp newer than every requirements file means nothing to do: a second `make demo` installs nothing.
$(INSTALLED): requirements.txt requirements-nodeps.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but Python 3.11 or newer is needed: name one, e.g. make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "Could not create $(VENV). On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@# torch first and alone: a resolver that sees everything at once may look for a newer one.
	$(PIP) install --quiet $(PIP_FLAGS) torch==$$(sed -n 's/^torch==//p' requirements.txt)
	$(PIP) install --quiet $(PIP_FLAGS) -c constraints.txt -r requirements.txt
	$(PIP) install --quiet $(PIP_FLAGS) --no-deps -r requirements-nodeps.txt
	$(PIP) install --quiet $(PIP_FLAGS) --no-deps --no-build-isolation --editable .
	@touch $@

$(INSTALLED_DEV): $(INSTALLED) requirements-dev.txt
	$(PIP) install --quiet $(PIP_FLAGS) -c constraints.txt -r requirements-dev.txt
	@touch $@

demo: $(INSTALLED) ## annotate, tune, exchange, pull, serve: with real processes (DATA=DIR, OUT=DIR, KEEP=1)
	@$(RUN) fedsca demo $(if $(DATA),--data "$(DATA)") $(if $(OUT),--out "$(OUT)") $(if $(KEEP),--keep) $(ARGS)

$(INSTALLED_WORKSTATION): $(INSTALLED) slicer_extension/workstation/requirements.txt
	$(PIP) install --quiet $(PIP_FLAGS) -c constraints.txt -r slicer_extension/workstation/requirements.txt
	@touch $@

workstation: $(INSTALLED_WORKSTATION) ## segment in the browser (SERVER=URL or STUDIES=DIR, PORT=8200)
	@$(RUN) PYTHONPATH=slicer_extension:slicer_extension/FedSCA python -m workstation --port $(PORT) $(if $(SERVER),--server "$(SERVER)") $(if $(STUDIES),--studies "$(STUDIES)") $(ARGS)

doctor: $(INSTALLED) ## tell what is installed, which device and base are used, what is missing
	@$(RUN) fedsca doctor

# Where the tables go: results, finished rounds (to go on from), reports.
TABLES = $(or $(OUT),tables)
tables: $(INSTALLED) ## does the federation help? three questions of docs/benchmarks.md in at most three hours (DATA=DIR with fedbca, optic_disc; OUT=DIR)
	@test -d "$(DATA)/fedbca" -a -d "$(DATA)/optic_disc" || \
	  { echo "make tables needs DATA=DIR, a folder with fedbca and optic_disc; for hospitals of your own: fedsca bench federated --help"; exit 1; }
	@mkdir -p "$(TABLES)"
	@date -u '+begun %Y-%m-%dT%H:%M:%SZ' >> "$(TABLES)/time.txt"
	$(RUN) fedsca bench federated --root "$(DATA)/fedbca" --kinds box --out "$(TABLES)/fedbca.json"
	$(RUN) fedsca bench federated --root "$(DATA)/fedbca" --kinds box --out "$(TABLES)/fedbca.json" --experiment depth --methods fedsca --seeds 0
	$(RUN) fedsca bench federated --root "$(DATA)/fedbca" --kinds box --out "$(TABLES)/fedbca.json" --experiment blocks --seeds 0
	$(RUN) fedsca bench federated --root "$(DATA)/optic_disc" --out "$(TABLES)/optic_disc.json"
	$(RUN) fedsca bench report "$(TABLES)/fedbca.json" --out "$(TABLES)"
	$(RUN) fedsca bench report "$(TABLES)/optic_disc.json" --out "$(TABLES)"
	@date -u '+ended %Y-%m-%dT%H:%M:%SZ' >> "$(TABLES)/time.txt"

TEST_PROCESSES ?= 2
test: $(INSTALLED_DEV) ## all tests (10 to 30 minutes on two cores; TEST_PROCESSES=1 runs one at a time)
	@# Passive waiting: threads of torch that spin while they wait starve the other processes that the tests start.
	$(RUN) OMP_WAIT_POLICY=PASSIVE python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --durations 25 --durations-min 10

lint: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED_DEV) ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(INSTALLED_DEV)
	$(BIN)/mypy

imports: $(INSTALLED_DEV)
	$(RUN) PYTHONPATH=slicer_extension:slicer_extension/FedSCA lint-imports

check: lint types imports test ## lint, format, types, import rule, tests

fuzz: $(INSTALLED_DEV) ## random requests and damaged files against a real server (ARGS="--examples 300 --seconds 900 --seed 7")
	@$(RUN) OMP_WAIT_POLICY=PASSIVE python -m tests.monailabel_app.http_fuzz $(ARGS)

faults: $(INSTALLED_DEV) ## every fault done to real federations, about an hour; writes docs/faults.md (ARGS="--only 'disk full'")
	@$(RUN) OMP_WAIT_POLICY=PASSIVE python -m benchmarks.faults --again --markdown docs/faults.md $(ARGS)

attacks: $(INSTALLED_DEV) ## every attack by members of a real federation, about half an hour; writes docs/robustness.md (ARGS="--only drift")
	@$(RUN) OMP_WAIT_POLICY=PASSIVE python -m benchmarks.real_attacks --again --markdown docs/robustness.md $(ARGS)

clean: ## remove the environment and everything generated
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
