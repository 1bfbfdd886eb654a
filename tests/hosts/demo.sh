#!/bin/sh
# make demo: a registry, a disposable host, the playbook twice. What it makes is in build/demo; `make demo-down` removes it.
set -eu
cd "$(dirname "$0")/../.."
here=$PWD/build/demo
python=.venv/bin/python
port=5077

if [ "${1:-up}" = down ]; then
    $python tests/hosts/disposable.py down "$here/host"
    $python tests/hosts/images.py down "$here/registry"
    rm -rf "$here"
    exit 0
fi

if [ "$(id -u)" != 0 ]; then
    echo "make demo: needs root, for the host's namespaces (try sudo make demo)" >&2
    exit 1
fi
mkdir -p "$here"
address=$($python tests/hosts/disposable.py up "$here/host" 0)
$python tests/hosts/images.py up "$here/registry" 10.213.0.1:$port
run() {
    .venv/bin/ansible-playbook -i "$here/host/inventory.json" -e registry=10.213.0.1:$port playbooks/demo.yml
}
PATH=$PWD/.venv/bin:$PATH
export PATH
run
echo "--- and again: nothing is left to do"
run | tee "$here/second.log"
grep -q 'changed=0 .*failed=0' "$here/second.log"
cat <<TEXT

The host is $address. Try:
  curl http://$address:8081                  a web server on it
  curl http://$address:8082                  the other one
  ssh -i $here/host/key -o UserKnownHostsFile=$here/host/known_hosts root@$address
    bayplan ps                                on the host: what runs there
    bayplan logs client                       the two servers, called by their names
    bayplan rm -f web1                        break something, then see what a run would mend (without --check, it does):
  .venv/bin/ansible-playbook -i $here/host/inventory.json -e registry=10.213.0.1:$port playbooks/demo.yml --check --diff
  make demo-down                              nothing of it stays
TEXT
