# melcache: `make demo`, `make test`, `make extract DATASET=wikidiverse`, `make train DATASET=wikidiverse`
DATASET ?= demo
DATA ?= data/$(DATASET)
SHARDS ?= shards
WEIGHTS ?= $(if $(filter demo,$(DATASET)),random-tiny,pretrained)
MAX_MISSING ?= 0.05
MODEL ?= drin
DEVICE ?= auto

# what each target takes; what is not given is the command's own default, or the head's
TAKES_setup := EXTRAS
TAKES_demo := SHARDS
TAKES_extract := DATASET DATA SHARDS NAME WEIGHTS MAX_MISSING LIMIT DEVICE FOR TEXT IMAGE JOINT DETECTOR DESCRIPTIONS WORKERS_ON SLURM REMOTE PUSH PLAN EXPLAIN ARGS
TAKES_describe := DATASET DATA DESCRIPTIONS CONTACT ARGS
TAKES_train := DATASET SHARDS MODEL EPOCHS SEEDS DEVICE RUN REPORT ARGS
TAKES_reproduce := DATASET DATASETS SHARDS MODELS EPOCHS SEEDS DEVICE RUN WORKERS_ON SLURM REPORT ARGS
TAKES_bench := RECORD
TAKES_torture := RECORD SEED ONLY CASES
SWITCHES := PUSH PLAN EXPLAIN REPORT
ON := 1 yes Yes YES true True TRUE
OFF := 0 no No NO false False FALSE
GOALS := $(or $(MAKECMDGOALS),help)
TAKEN := $(sort $(foreach goal,$(GOALS),$(TAKES_$(goal))))

# A value is taken as it stands, with its $$, and reaches the command in the environment, where no shell parses it.
# ARGS alone is pasted into the command line: words that the shell splits.
from = $(if $(filter $1,$(firstword $(origin $2))),$2)
COMMANDED := $(sort $(foreach name,$(filter-out -*-%,$(.VARIABLES)),$(call from,command,$(name))))
$(foreach name,$(COMMANDED) $(TAKEN),$(if $(call from,command environment,$(name)),\
  $(eval override $(name) := $$(value $(name)))))
export $(or $(TAKEN),MAKELEVEL)
export MELCACHE_MAKE := $(TAKEN)
comma := ,
export MELCACHE_TARGETS := $(foreach goal,extract describe train reproduce,$(goal):$(subst $(eval ) ,$(comma),$(TAKES_$(goal))))

# A variable that the target does not read is an error: its value would be lost in silence.
NEAREST := import sys; from common.words import nearest; name, *taken = sys.argv[1:]; print(name + nearest(name, taken))
quoted = '$(subst ','\'',$1)'
nearest = $(or $(shell python3 -c $(call quoted,$(NEAREST)) $(call quoted,$1) $(TAKEN) 2>/dev/null),$1)
UNREAD := $(filter-out $(TAKEN),$(COMMANDED))
ifneq ($(UNREAD),)
  $(error make $(GOALS) takes no $(foreach name,$(UNREAD),$(call nearest,$(name))); it takes $(or \
    $(TAKEN),no variable)$(if $(filter ARGS,$(TAKEN)),. Other options of the command: ARGS='--option value'))
endif
$(foreach name,$(filter $(SWITCHES),$(TAKEN)),$(if $(filter-out $(ON) $(OFF),$($(name))),\
  $(error $(name)=$($(name)): expected 1 or 0)))
switch = $(if $(filter $(ON),$($1)),--$2)

# what is not given is left out, which the shell decides
GIVEN := $${EPOCHS:+--epochs "$$EPOCHS"} $${SEEDS:+--seeds "$$SEEDS"} $${RUN:+--run "$$RUN"}
PYTHON := .venv/bin/python
READY := .venv/.ready

.PHONY: help setup demo extract describe train reproduce test lint docs bench torture clean FORCE
.DEFAULT_GOAL := help

help:
	@echo "make setup                          the environment, in .venv; EXTRAS=s3,plot: with these extras, too"
	@echo "make demo                           extract and train on a small generated world"
	@echo "make extract DATASET=... DATA=...   a release to a cache; also SHARDS WEIGHTS MAX_MISSING LIMIT DEVICE"
	@echo "                                    and FOR=ghmfc,dwe: the parts that only these heads read"
	@echo "                                    TEXT IMAGE JOINT DETECTOR=name: other encoders than the papers' (docs/encoders.md)"
	@echo "                                    DESCRIPTIONS=file: longer texts of entities, for DWE+"
	@echo "                                    WORKERS_ON=local:4: four processes, one for each GPU where there are several;"
	@echo "                                    slurm:8 SLURM='partition=gpu gpus=1', ray (docs/scale.md)"
	@echo "                                    REMOTE=url: fetch what a teammate has computed; PUSH=1: publish the result,"
	@echo "                                    divided with machines that do so at once"
	@echo "                                    PLAN=1: only show what there is to do; EXPLAIN=1: and why"
	@echo "make describe DATASET=... CONTACT=you@example.org   such a file, from Wikipedia"
	@echo "make train DATASET=... MODEL=drin   a cache to an accuracy; also SHARDS EPOCHS SEEDS DEVICE RUN"
	@echo "make reproduce DATASET=...          every head and five seeds, beside the published numbers; also SHARDS"
	@echo "                                    MODELS=drin,bert SEEDS EPOCHS DEVICE RUN; DATASETS=a,b: encoder by head"
	@echo "                                    WORKERS_ON=local:4: four processes that divide the seeds of the runs; slurm:8, ray"
	@echo "                                    REPORT=1, also of train: then pages to look at, in report/ of its folder"
	@echo "                                    extract, train, reproduce take any other option in ARGS='--patience 5'"
	@echo "make bench RECORD=docs/benchmarks.md  measure the trainer here; RECORD writes the figures down"
	@echo "make torture RECORD=docs/reliability.md  break caches, for an hour; also SEED ONLY=kills,rot CASES=1000"
	@echo "make docs                           the documentation as a site, in site/"
	@echo "make test | lint | clean"

setup: $(READY)

$(READY): requirements.lock pyproject.toml setup.sh $(if $(EXTRAS),FORCE)
	@sh setup.sh "$$EXTRAS"

demo: $(READY)
	@$(PYTHON) -m melcache extract --dataset demo --shards "$$SHARDS" --weights random-tiny
	@$(PYTHON) -m melcache train --dataset demo --shards "$$SHARDS" --model drin --seeds 0,1,2 --width 128 --run runs/demo --fresh \
	  --report

extract: $(READY)
	@$(PYTHON) -m melcache extract --dataset "$$DATASET" --data "$$DATA" --shards "$$SHARDS" --weights "$$WEIGHTS" \
	  --max-missing "$$MAX_MISSING" --device "$$DEVICE" $${LIMIT:+--limit "$$LIMIT"} $${FOR:+--for "$$FOR"} \
	  $${NAME:+--name "$$NAME"} $${TEXT:+--text "$$TEXT"} $${IMAGE:+--image "$$IMAGE"} $${JOINT:+--joint "$$JOINT"} \
	  $${DETECTOR:+--detector "$$DETECTOR"} $${DESCRIPTIONS:+--descriptions "$$DESCRIPTIONS"} \
	  $${WORKERS_ON:+--workers-on "$$WORKERS_ON"} $${SLURM:+--slurm "$$SLURM"} $${REMOTE:+--remote "$$REMOTE"} \
	  $(call switch,PUSH,push) $(call switch,PLAN,plan) $(call switch,EXPLAIN,explain) $(ARGS)

describe: $(READY)
	@$(PYTHON) -m melcache describe --dataset "$$DATASET" --data "$$DATA" --contact "$$CONTACT" \
	  --out "$${DESCRIPTIONS:-$${DATA%/}.descriptions.jsonl}" $(ARGS)

train: $(READY)
	@$(PYTHON) -m melcache train --dataset "$$DATASET" --shards "$$SHARDS" --model "$$MODEL" --device "$$DEVICE" $(GIVEN) \
	  $(call switch,REPORT,report) $(ARGS)

reproduce: $(READY)
	@$(PYTHON) -m melcache compare --dataset "$$DATASET" --shards "$$SHARDS" --device "$$DEVICE" \
	  $${DATASETS:+--datasets "$$DATASETS"} $${MODELS:+--models "$$MODELS"} $(GIVEN) \
	  $${WORKERS_ON:+--workers-on "$$WORKERS_ON"} $${SLURM:+--slurm "$$SLURM"} \
	  $(call switch,REPORT,report) $(ARGS)

test: $(READY)
	@$(PYTHON) -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

lint: $(READY)
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --quiet --strict
	@echo "site/index.html: open it in a browser"

bench: $(READY)
	@$(PYTHON) -m bench $${RECORD:+--record "$$RECORD"}

torture: $(READY)
	@$(PYTHON) -m torture $${ONLY:+--only "$$ONLY"} $${SEED:+--seed "$$SEED"} $${CASES:+--cases "$$CASES"} \
	  $${RECORD:+--record "$$RECORD"}

clean:
	rm -rf .mypy_cache .pytest_cache .ruff_cache *.egg-info site
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
