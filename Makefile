# bayplan. `make demo` and `make test` are where to start; both need root.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := python3-venv python3-pip busybox-static docker-registry openssh-server openssh-client iproute2 nftables conntrack \
            gcc libc6-dev openssl apache2-utils zstd curl procps util-linux skopeo strace

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup packages demo demo-down test soak test-vm test-versions test-pythons bench lint collection docs clean

setup: packages $(VENV)/.ready

# What Debian has and is not installed here yet; said, and not installed, where we may not.
packages:
	@missing=; for p in $(PACKAGES); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
	else echo "make setup: not installed, and only root can install them: apt install$$missing" >&2; fi

$(VENV)/.ready: pyproject.toml runtime/vendor.txt runtime/launcher/bayplan
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python runtime/archive.py vendor
	$(BIN)/pip install -q -e '.[ansible,pyinfra,test]'
	site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
		mkdir -p $$site/ansible_collections/bayplan && ln -sfn $(CURDIR)/collection $$site/ansible_collections/bayplan/containers
	touch $@

demo: setup
	tests/hosts/demo.sh

demo-down:
	tests/hosts/demo.sh down

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy --strict runtime/bayplan runtime/bayplan_pyinfra runtime/archive.py runtime/collection.py

# A test that hangs fails after 15 minutes, and shows where.
test: lint
	$(BIN)/python -m pytest -q --timeout=900

# The same properties as in `make test`, tried often enough to be measured.
soak: setup
	KILLS=1000 PAIRS=300 FAULTS=1000 $(BIN)/python -m pytest -q tests/system/test_kill.py tests/system/test_check_mode.py \
		tests/system/test_registry_faults.py

# Everything else is on this machine; this is on an emulated one, with systemd and unified cgroups.
test-vm: setup
	@if [ -x tests/vm/run ]; then tests/vm/run; else echo "make test-vm: there is no tests/vm/run" >&2; exit 1; fi

# The modules with the oldest and the newest ansible-core.
test-versions: setup
	tests/hosts/versions

# The system tests with the Pythons that hosts have, and as on an old kernel.
test-pythons: setup
	tests/pythons

bench: setup
	$(BIN)/python tests/bench/run.py

collection: setup
	$(BIN)/python runtime/collection.py build dist

docs: setup
	$(BIN)/python docs/modules.py

clean: demo-down
	rm -rf build dist $(VENV)
