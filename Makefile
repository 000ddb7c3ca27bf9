# The two commands of the README are `make demo` and `make test`. Everything runs from .venv; nothing needs root.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Seconds; empty means a minute, or for a capture until it has ended.
DURATION ?=
BROKER ?= embedded
FEED ?= simulated
SPEED ?= 1
POLICY ?=
SEED ?= 7
# How often each fault of the campaign happens.
RUNS ?= 1
DEMO_FLAGS ?=
UP_FLAGS ?=
# Processes of one part of the suite.
JOBS ?= 2
# The same for the embedded part, whose tests wait more than they work: a file's tests stay together, with its servers.
EMBEDDED_JOBS ?= 1
# Whose tests are counted line by line; where all parts run, they run there and not twice.
COUNTED := tests/schemas tests/agents tests/contracts tests/simulation
BENCH_FLAGS ?=
# A run's directory, for dashboards-shown.
RUN ?=
SHOW_FLAGS ?=
TRAIN_FLAGS ?=

export PYTHONDONTWRITEBYTECODE :=
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo up setup setup-dev setup-train setup-influx have-influx test test-fast-alone test-one-half test-other-half test-fast test-coverage test-slow test-train test-integration test-embedded test-kafka setup-kube test-kube test-campaign test-faults test-split-brain test-orders test-crash-points check format bench bench-gate bench-kill bench-load bench-limits bench-orders bench-order-throughput bench-recovery bench-workers bench-image bench-stream bench-sustained bench-votes bench-ablation bench-policy bench-controls bench-metrics bench-environment bench-training bench-walk-forward bench-regimes bench-set-policy train train-quant schemas dashboards dashboards-shown metrics-page influx-page lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

$(BIN)/uv: requirements-bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 13) else "TraderMind needs Python 3.11 or 3.12; set PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.txt
	@touch $@

$(VENV)/.runtime: $(BIN)/uv requirements.lock pyproject.toml
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.lock
	@touch $@

.venv-train/.done: $(BIN)/uv requirements-train.lock pyproject.toml
	@test -x .venv-train/bin/python || $(PYTHON) -m venv .venv-train
	@$(BIN)/uv pip install --quiet --python .venv-train/bin/python --require-hashes -r requirements-train.lock
	@$(BIN)/uv pip install --quiet --python .venv-train/bin/python --no-deps --no-build-isolation -e .
	@touch $@

setup: $(VENV)/.runtime ## install what the platform needs
setup-dev: $(VENV)/.dev ## install what its tests need, too
setup-train: .venv-train/.done ## install what training needs, and its tests, beside the rest (torch: several GB)

setup-influx: setup ## build InfluxDB 2.7 into the cache, if it is not there (go, cargo; 3 minutes once)
	@$(BIN)/python -c 'from infra.servers.influx import main; main()'

# Without go or cargo the suite goes on, and says at its end what it has not met.
have-influx: setup-dev
	@$(BIN)/python -c 'from infra.servers.influx import main; main()' || true

demo: setup ## run the whole platform: DURATION= BROKER=kafka|host:port FEED=path SPEED=n|max POLICY=probe
	@$(BIN)/tradermind demo $(if $(DURATION),--duration $(DURATION)) --broker $(BROKER) --feed $(FEED) --speed $(SPEED) $(if $(POLICY),--policy $(POLICY)) --seed $(SEED) $(DEMO_FLAGS)

up: setup ## run the platform on real servers until Ctrl-C, and keep what it knows for the next time (java, mvn): UP_FLAGS=
	@$(BIN)/tradermind up $(UP_FLAGS)

train: setup-train ## make the champion that ships again, on simulated regimes only: the same sha256 on the same machine
	@nice -n 10 .venv-train/bin/tradermind train --shipped $(TRAIN_FLAGS)

train-quant: setup-train ## grow the trees of the expert quant again, on the simulator only: the same bytes on the same machine
	@nice -n 10 .venv-train/bin/python -m streams.training.quant

# The integration tests mostly wait for servers, so what needs none runs beside them; more than two at once makes them wait.
test: setup-dev test-fast-alone ## run the whole suite
	@$(MAKE) --no-print-directory -j 2 JOBS=1 test-one-half test-other-half
	@echo "not run here: the campaigns (kill every worker of the platform; a foreign expert over 500 ballots): make test-campaign"

test-fast-alone: setup-dev
	@$(MAKE) --no-print-directory test-fast ELSEWHERE="$(COUNTED)"

# One part that fails must not hide what the others would have told.
test-one-half: setup-dev
	@$(MAKE) --no-print-directory -k -j 1 test-embedded test-coverage test-train

test-other-half: setup-dev
	@$(MAKE) --no-print-directory -k -j 1 test-kafka test-kube test-slow

test-fast: setup-dev ## unit, contract, property, simulation and architecture tests
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m "not embedded and not kafka and not kube and not slow and not campaign and not train" $(ELSEWHERE:%=--ignore=%)

test-coverage: setup-dev ## the tests of schemas, agents, contracts and simulation, counting the lines that they reach
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m "not slow" $(COUNTED) --cov --cov-report=term:skip-covered --cov-fail-under=90

test-slow: setup-dev have-influx ## what takes longer without a broker: hundreds of seeds, whole captures, regimes of the market
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m "slow and not embedded and not kafka and not kube and not campaign and not train"

test-train: setup-train ## what needs torch: networks, learning, their controls in short form, the trainer
	@.venv-train/bin/python -m pytest -q -m "train and not campaign" tests/training

test-integration: test-embedded test-kafka ## the platform on the embedded servers and on real Kafka (java, mvn)

test-embedded: setup-dev have-influx ## the platform on the embedded broker and Postgres
	@$(BIN)/python -m pytest -q --durations=15 $(if $(filter-out 1,$(EMBEDDED_JOBS)),-n $(EMBEDDED_JOBS) --dist loadfile) -m "embedded and not kafka and not campaign and not train"

test-kafka: setup-dev have-influx ## the platform on real Kafka (java, mvn)
	@$(BIN)/python -m pytest -q --durations=15 -m "kafka and not campaign and not train"

setup-kube: setup-dev ## build a real Kubernetes for the suite, once, into the cache: go, mvn (minutes; 500 MB)
	@$(BIN)/python -m infra.servers.kubernetes_programs

# What cannot be had is told in the closing lines, as every server that the suite does not meet.
test-kube: setup-dev ## deploy/k8s: rendered, held to policies, and taken by a real Kubernetes (kubectl, go, mvn)
	@$(BIN)/python -m infra.servers.kubernetes_programs > /dev/null || true
	@$(BIN)/python -m pytest -q --durations=5 -m "kube"

test-campaign: setup-dev ## kill every worker in turn on real Kafka; restore a backup; a foreign expert over 500 ballots
	@$(BIN)/python -m pytest -q -m "campaign"

test-faults: setup-dev ## every fault against three stages at work on real Kafka and Postgres: a table (RUNS=n)
	@$(BIN)/python tests/fault_campaign.py --runs $(RUNS)

test-split-brain: setup-dev ## stop the executor, let another take over and trade, go on with the first: RUNS=50 times
	@PYTHONPATH=tests $(BIN)/python -m split_brain --runs $(if $(filter command line,$(origin RUNS)),$(RUNS),50)

test-orders: setup-dev ## every sequence of up to 6 venue reports on an order, and orders under faults at every state: counts
	@$(BIN)/python tests/order_campaign.py
	@$(BIN)/python tests/order_faults.py

test-crash-points: setup-dev ## end processes at every call to the simulated world, and a real worker at every SQL statement
	@$(BIN)/tradermind simulate --crash-points
	@$(BIN)/python tests/sql_crash_points.py

check: setup-dev ## format, lint, types, layout
	@$(BIN)/ruff format --check --quiet schemas agents infra streams tests benchmarks
	@$(BIN)/ruff check --quiet schemas agents infra streams tests benchmarks
	@$(BIN)/mypy
	@$(BIN)/lint-imports > /dev/null || $(BIN)/lint-imports
	@$(BIN)/python -m infra.dashboards --check
	@$(BIN)/python -m pytest -q tests/architecture tests/schemas/test_generated_schemas.py tests/monitoring/test_rule_files.py

format: setup-dev ## rewrite the sources in the project's format
	@$(BIN)/ruff format --quiet schemas agents infra streams tests benchmarks
	@$(BIN)/ruff check --quiet --fix schemas agents infra streams tests benchmarks

bench: setup-dev ## events per second in process, and tick-to-order over real Kafka beside a bare aiokafka chain
	@$(BIN)/python -m benchmarks.pipeline
	@$(BIN)/python -m benchmarks.tick_to_order --rate 200 --orders 300

bench-votes: setup-dev ## how good the committee's learning is: regret, shifts, what bounds cost, calibration (BENCH_FLAGS=--seconds n)
	@$(BIN)/python -m benchmarks.votes $(BENCH_FLAGS)

bench-gate: setup-dev ## how often the release gate lets in who is no better, and who is; false alarms of drift, and how soon it is seen
	@$(BIN)/python -m benchmarks.release_gate $(BENCH_FLAGS)
	@$(BIN)/python -m benchmarks.input_drift

bench-walk-forward: setup-train ## the set policy on whole real days, each learnt only from the days before, beside rules and a pool network
	@nice -n 10 .venv-train/bin/python -m benchmarks.walk_forward $(BENCH_FLAGS)

bench-regimes: setup-train ## the champion on simulated regimes that it was not trained on, beside rules and a pool network
	@nice -n 10 .venv-train/bin/python -m benchmarks.regimes $(BENCH_FLAGS)

bench-set-policy: setup-dev ## what an expert more is worth at run time to the champion: 20 pairs, useful and useless
	@nice -n 10 $(BIN)/python -m benchmarks.set_policy $(BENCH_FLAGS)

bench-controls: setup-train ## learning with a leak that it must live off, and one that it must not: five seeds each (30 min)
	@.venv-train/bin/python -m benchmarks.controls $(BENCH_FLAGS)

bench-metrics: setup-dev ## what the metrics cost on the hot path, on and off in turns: BENCH_FLAGS=
	@$(BIN)/python -m benchmarks.metrics_cost $(BENCH_FLAGS)

bench-environment: setup-dev ## steps a second of the training environment on one core, and where they go (BENCH_FLAGS=--seconds n)
	@$(BIN)/python -m benchmarks.environment $(BENCH_FLAGS)

bench-training: setup-train ## training steps a second beside plain stable-baselines3 (BENCH_FLAGS=--steps n)
	@.venv-train/bin/python -m benchmarks.training $(BENCH_FLAGS)

bench-policy: setup-train ## what one decision of a learned policy costs, in numpy beside stable-baselines3's predict
	@.venv-train/bin/python -m benchmarks.policy_inference $(BENCH_FLAGS)

bench-ablation: setup-dev ## what the committee loses without each expert, on captures and simulated: docs/experts-ablation.md
	@nice -n 10 $(BIN)/python -m benchmarks.ablation $(BENCH_FLAGS)

bench-orders: setup-dev ## tick-to-order at 20, 200 and 1,000 ticks a second, on real Kafka (BENCH_FLAGS=--json file)
	@$(BIN)/python -m benchmarks.tick_to_order $(BENCH_FLAGS)

bench-limits: setup-dev ## microseconds of all hard limits for one order, for accounts of three sizes, in process
	@$(BIN)/python -m benchmarks.limits $(BENCH_FLAGS)

bench-order-throughput: setup-dev ## orders a second from decision to booked fill on real Kafka, rising rates (BENCH_FLAGS)
	@$(BIN)/python -m benchmarks.orders $(BENCH_FLAGS)

bench-sustained: setup-dev ## 11,600 messages a second through every worker for 10 minutes: losses, lag, memory
	@$(BIN)/python -m benchmarks.sustained $(BENCH_FLAGS)

bench-workers: setup-dev ## each worker: seconds from exec to ready, memory at rest and under load (BENCH_FLAGS=--seconds n)
	@$(BIN)/python -m benchmarks.cold_start $(BENCH_FLAGS)

bench-image: setup-dev ## how large the image is, built without Docker
	@$(BIN)/python -m benchmarks.image_build

bench-recovery: setup-dev ## kill -9 of each worker with 1, 10 and 60 minutes of history: time to its first new output
	@$(BIN)/python -m benchmarks.recovery $(BENCH_FLAGS)

bench-load: setup-dev ## kcat and a Java client write 2,000 records/s into a demo on real Kafka for a minute (BENCH_FLAGS="--rate 4000")
	@PYTHONPATH=tests $(BIN)/python -m other_systems $(BENCH_FLAGS)

bench-kill: setup-dev ## 100 kills each with all at work, with Kafka stopped, and with Postgres and the executor alone
	@$(BIN)/python -m benchmarks.kill $(BENCH_FLAGS)

.venv-quix/.done: $(BIN)/uv requirements-quix.lock
	@test -x .venv-quix/bin/python || $(PYTHON) -m venv .venv-quix
	@$(BIN)/uv pip install --quiet --python .venv-quix/bin/python --require-hashes -r requirements-quix.lock
	@touch $@

bench-stream: setup-dev .venv-quix/.done ## records per second beside stock Faust, Quix Streams and bare clients, on real Kafka
	@$(BIN)/python -m benchmarks.stream

schemas: setup ## write the Avro schemas and the AsyncAPI document from the event types
	@$(BIN)/python -m schemas.generate

dashboards: setup ## write Grafana's dashboards and their page from the builders in infra/dashboards
	@$(BIN)/python -m infra.dashboards

dashboards-shown: setup ## draw a run's dashboards as HTML pages, without Grafana: RUN=directory SHOW_FLAGS=
	@$(BIN)/python -m infra.dashboards.show $(if $(RUN),--run $(RUN)) $(SHOW_FLAGS)

influx-page: setup ## write the table of docs/influx.md from what makes the points
	@$(BIN)/python -m infra.influx.document

metrics-page: setup ## write the tables of docs/metrics.md from the table of metrics
	@$(BIN)/python -m infra.metrics.document

lock: $(BIN)/uv ## resolve the dependencies anew, with hashes and without addresses
	@$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --universal --python-version 3.11 pyproject.toml --extra build -o requirements.lock
	@$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --universal --python-version 3.11 pyproject.toml --extra build --extra dev -o requirements-dev.lock
	@$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --universal --python-version 3.11 pyproject.toml --extra build --extra dev --extra train -o requirements-train.lock
	@$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --universal --python-version 3.11 requirements-quix.in -o requirements-quix.lock

clean: ## remove what runs have left
	@rm -rf .run summary.json .coverage .pytest_cache .mypy_cache .ruff_cache
