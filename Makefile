# melcache: `make demo`, `make test`, `make extract DATASET=wikidiverse`, `make train DATASET=wikidiverse`
DATASET ?= demo
DATA ?= data/$(DATASET)
SHARDS ?= shards
WEIGHTS ?= $(if $(filter demo,$(DATASET)),random-tiny,pretrained)
MAX_MISSING ?= 0.05
LIMIT ?=
FOR ?=
DESCRIPTIONS ?=
REMOTE ?=
PUSH ?=
PLAN ?=
EXPLAIN ?=
CONTACT ?=
MODEL ?= drin
EPOCHS ?=
SEEDS ?=
DEVICE ?= auto
MODELS ?=
ARGS ?=
RUN ?=
SEED ?=
ONLY ?=
CASES ?=

# what is not given is the command's own, or the head's
GIVEN = $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(RUN),--run $(RUN))
PYTHON := .venv/bin/python
READY := .venv/.ready

.PHONY: help setup demo extract describe train reproduce test lint bench torture clean
.DEFAULT_GOAL := help

help:
	@echo "make setup                          the environment, in .venv"
	@echo "make demo                           extract and train on the embedded demo data"
	@echo "make extract DATASET=... DATA=...   a release to a cache; also SHARDS WEIGHTS MAX_MISSING LIMIT DEVICE"
	@echo "                                    and FOR=ghmfc,dwe: the parts that only these heads read"
	@echo "                                    DESCRIPTIONS=file: longer texts of entities, for DWE+"
	@echo "                                    REMOTE=url: fetch what a teammate has computed; PUSH=1: publish the result"
	@echo "                                    PLAN=1: only show what there is to do; EXPLAIN=1: and why"
	@echo "make describe DATASET=... CONTACT=you@example.org   such a file, from Wikipedia"
	@echo "make train DATASET=... MODEL=drin   a cache to an accuracy; also SHARDS EPOCHS SEEDS DEVICE RUN"
	@echo "make reproduce DATASET=...          every head and five seeds, beside the published numbers; also SHARDS"
	@echo "                                    MODELS=drin,bert SEEDS EPOCHS DEVICE RUN"
	@echo "                                    all three take any other option in ARGS='--patience 5'"
	@echo "make bench RECORD=docs/benchmarks.md  measure the trainer here; RECORD writes the figures down"
	@echo "make torture RECORD=docs/reliability.md  break caches, for an hour; also SEED ONLY=kills,rot CASES=1000"
	@echo "make test | lint | clean"

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@[ ! -L .venv ] || { echo ".venv is a link to another checkout's environment: remove the link" >&2; exit 1; }
	@command -v uv >/dev/null || python3 -m uv --version >/dev/null 2>&1 \
	  || python3 -m pip install --quiet --user uv 2>/dev/null \
	  || python3 -m pip install --quiet --user --break-system-packages uv 2>/dev/null \
	  || python3 -m pip install --quiet uv || { echo "make setup needs uv: install it, or pip" >&2; exit 1; }
	@UV=$$(command -v uv || echo "python3 -m uv"); \
	  $$UV venv --quiet --allow-existing --python ">=3.11,<3.14" .venv && \
	  $$UV pip sync --quiet --require-hashes --python .venv requirements.lock && \
	  $$UV pip install --quiet --no-deps --python .venv --editable .
	@touch $@

demo: $(READY)
	@$(PYTHON) -m extract --dataset demo --shards $(SHARDS) --weights random-tiny
	@$(PYTHON) -m train --dataset demo --shards $(SHARDS) --model drin --seeds 0,1,2 --width 128 --run runs/demo --fresh

extract: $(READY)
	@$(PYTHON) -m extract --dataset $(DATASET) --data $(DATA) --shards $(SHARDS) --weights $(WEIGHTS) \
	  --max-missing $(MAX_MISSING) --device $(DEVICE) $(if $(LIMIT),--limit $(LIMIT)) $(if $(FOR),--for $(FOR)) \
	  $(if $(DESCRIPTIONS),--descriptions $(DESCRIPTIONS)) $(if $(REMOTE),--remote '$(REMOTE)') \
	  $(if $(filter 1,$(PUSH)),--push) $(if $(filter 1,$(PLAN)),--plan) $(if $(filter 1,$(EXPLAIN)),--explain) $(ARGS)

describe: $(READY)
	@$(PYTHON) -m extract describe --dataset $(DATASET) --data $(DATA) --contact "$(CONTACT)" \
	  --out $(or $(DESCRIPTIONS),$(DATA:/=).descriptions.jsonl) $(ARGS)

train: $(READY)
	@$(PYTHON) -m train --dataset $(DATASET) --shards $(SHARDS) --model $(MODEL) --device $(DEVICE) $(GIVEN) $(ARGS)

reproduce: $(READY)
	@$(PYTHON) -m train compare --dataset $(DATASET) --shards $(SHARDS) --device $(DEVICE) \
	  $(if $(MODELS),--models $(MODELS)) $(GIVEN) $(ARGS)

test: $(READY)
	@$(PYTHON) -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

lint: $(READY)
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .

bench: $(READY)
	@$(PYTHON) -m bench $(if $(RECORD),--record $(RECORD))

torture: $(READY)
	@$(PYTHON) -m torture $(if $(ONLY),--only $(ONLY)) $(if $(SEED),--seed $(SEED)) $(if $(CASES),--cases $(CASES)) \
	  $(if $(RECORD),--record $(RECORD))

clean:
	rm -rf .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
