# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
#
# Each target is one visible call: 'make setup' once, and then the same command lines work without make
# (with .venv/bin in PATH, in this directory).

INVENTORY ?= qemu
# Passed on to Ansible, or in 'make test*' to pytest: make up ARGS='-e web_replicas=7'
ARGS ?=

export INVENTORY
export PATH := $(CURDIR)/.venv/bin:$(PATH):/usr/sbin:/sbin
# Named, since Ansible does not look for ansible.cfg in a directory that everyone may write to.
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Ansible refuses to start in a locale that is not UTF-8, or that the system does not have.
export LC_ALL := C.UTF-8
ifeq ($(shell uname -s),Darwin)
export LC_ALL := en_US.UTF-8
# Ansible's workers are forks, which macOS would end at their first use of some of its libraries.
export OBJC_DISABLE_INITIALIZE_FORK_SAFETY := YES
endif

PLAYBOOK = .venv/bin/ansible-playbook -i inventories/$(INVENTORY)
PYTEST = .venv/bin/pytest $(ARGS)
SHELL_SCRIPTS = $(shell find .ci scripts roles images molecule tests examples -type f ! -path '*/__pycache__/*' \
  -exec awk 'FNR == 1 && /^\#!.*(\/| )(ba|da)?sh$$/ {print FILENAME}' {} +)

# Tests that make clusters use the engine that answers; where none does, they get one of their own.
WITH_ENGINE = scripts/with-engine

.PHONY: help setup up check stack verify status stop start restart access backup restore down prune lint test test-unit
.PHONY: test-browser test-acceptance test-e2e test-long molecule bench inventory dev

help: ## List the targets (what make does when no target is named)
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "INVENTORY=name make ... picks another inventory than $(INVENTORY); there are: $(notdir $(wildcard inventories/*))"
	@echo "ARGS='...' is passed on to Ansible, to pytest in make test*, and to molecule test in make molecule"

setup: ## Install what is missing: system packages, Python packages in .venv, collections
	@scripts/setup

up: inventory setup ## Make machines, swarm, images and stack, and say where the stack answers
	$(PLAYBOOK) playbooks/site.yml $(ARGS)

check: inventory setup ## Show what 'make up' would change, and change nothing
	$(PLAYBOOK) playbooks/site.yml --check --diff $(ARGS)

stack: inventory setup ## Deploy the stack again, after an edit or to scale: ARGS='-e web_replicas=7'
	$(PLAYBOOK) playbooks/stack.yml $(ARGS)

verify: inventory setup ## Say whether the cluster is what it should be; changes nothing
	$(PLAYBOOK) playbooks/verify.yml $(ARGS)

backup: inventory setup ## Copy what the stack's services keep, such as the visits in Redis, to this computer
	$(PLAYBOOK) playbooks/backup.yml $(ARGS)

restore: inventory setup ## Put the newest backup back, or ARGS='-e backup_file=PATH'; asks first
	$(PLAYBOOK) playbooks/restore.yml $(ARGS)

status: inventory setup ## Say how the cluster is, quickly; for programs ARGS='-e status_file=status.json'
	$(PLAYBOOK) playbooks/status.yml $(ARGS)

stop: inventory setup ## Stop all machines, or one with ARGS='-e node=NAME', and keep their data
	$(PLAYBOOK) playbooks/stop.yml $(ARGS)

start: inventory setup ## Start the machines again, and ask until everything answers
	$(PLAYBOOK) playbooks/start.yml $(ARGS)

restart: inventory setup ## Restart the machines one after another, without losing a request
	$(PLAYBOOK) playbooks/restart.yml $(ARGS)

access: inventory setup ## Write a Docker context for the cluster, and say how to use it
	$(PLAYBOOK) playbooks/access.yml $(ARGS)

down: inventory setup ## Remove everything that 'make up' made; asks, unless ARGS='-e destroy_confirmed=true'
	$(PLAYBOOK) playbooks/destroy.yml $(ARGS)

prune: inventory setup ## Rid the cache of what no machine uses; ARGS=--check lists it
	$(PLAYBOOK) playbooks/prune.yml $(ARGS)

lint: dev ## Check the style of everything, and that the roles' READMEs are up to date
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	shellcheck $(SHELL_SCRIPTS)
	.venv/bin/yamllint --strict .
	.venv/bin/mypy
	.venv/bin/ansible-lint
	.venv/bin/python scripts/role-readmes --check

test: lint ## Pass the whole test suite: lint, units, pages in a browser, promises on VMs and containers, every role's scenario
	$(WITH_ENGINE) $(PYTEST) tests/unit tests/browser tests/acceptance tests/e2e tests/molecule

test-unit: dev ## Pass the unit tests: seconds, no machines
	$(PYTEST) tests/unit

test-browser: dev ## Pass the tests of the visualizer's page in Chromium: a minute or two, no machines
	$(PYTEST) tests/browser

test-acceptance: dev ## Pass the acceptance suite: what is promised of every cluster, on VMs and on containers
	$(WITH_ENGINE) $(PYTEST) tests/acceptance

test-e2e: dev ## Pass the end-to-end tests: minutes, on real machines
	$(PYTEST) tests/e2e

test-long: dev ## Pass what 'make test' does without, as it takes an hour or two where there is no KVM
	$(PYTEST) tests/long

molecule: dev ## Test each role and behaviour on container nodes; one with ARGS='-s stack'
	$(WITH_ENGINE) .venv/bin/molecule test $(or $(ARGS),--all)

bench: dev ## Measure, beside the plainest script for the same: ARGS='sizes 2 20', ARGS=snapshots, or ARGS=rerun
	$(WITH_ENGINE) env PYTHONPATH=collections .venv/bin/python \
	  tests/bench/$(or $(firstword $(ARGS)),sizes).py $(wordlist 2,9,$(ARGS))

dev:
	@scripts/setup --dev

inventory:
	@[ -e 'inventories/$(INVENTORY)' ] || { \
	  echo "there is no inventory '$(INVENTORY)' in inventories/: INVENTORY may be $(notdir $(wildcard inventories/*))" >&2; exit 1; }
