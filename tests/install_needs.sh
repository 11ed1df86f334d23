#!/usr/bin/env bash
# Installs what the tests need beside Python: a browser, a proxy, a database server, the brokers and the MQTT clients of
# others, Node.js and its packages.
# As root on Debian or Ubuntu it installs what is missing; elsewhere it names what is missing and exits 1.
# Running it again when all is there does nothing. It never leaves a service running.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/node"
export PATH="$PATH:/usr/sbin:/sbin"

has() { command -v "$1" >/dev/null; }
has_postgresql() { has postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }
node_is_recent() { has node && node -e 'process.exit(parseInt(process.versions.node) >= 18 ? 0 : 1)'; }

missing_packages() {
  has chromium || echo chromium
  has mosquitto || echo mosquitto
  has mosquitto_sub && has mosquitto_pub || echo mosquitto-clients
  has nginx || echo nginx
  node_is_recent || echo nodejs
  has npm || echo npm
  has_postgresql && has psql || echo postgresql
  has rabbitmq-server || echo rabbitmq-server
  # Playwright's own Node.js, which comes with its Python package, is linked against it.
  ldconfig -p | grep -q 'libatomic\.so\.1' || echo libatomic1
}

# A package that is installed must not start its service: Debian asks this file first.
install_packages() {
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap "rm -f $policy" EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq </dev/null
  apt-get install -y -qq --no-install-recommends "$@" </dev/null
  if [ -d /run/systemd/system ]; then
    disable_services "$@"
  fi
}

# Nor at the next start of the machine. Debian's rabbitmq-server brings epmd, which names Erlang's nodes, as a service.
disable_services() {
  local package
  for package in "$@"; do
    case "$package" in
      mosquitto | nginx | postgresql) systemctl disable --quiet --now "$package" ;;
      rabbitmq-server) systemctl disable --quiet --now rabbitmq-server epmd.service epmd.socket ;;
    esac
  done
}

report_missing() {
  echo "The tests need what is not here, or too old: $*." >&2
  echo "On Debian and Ubuntu: sudo apt-get install $*" >&2
  echo "Elsewhere: Chromium, nginx, PostgreSQL 15 or newer with psql, RabbitMQ, Mosquitto with its command line clients, and Node.js 18 or newer with npm, on the PATH; libatomic." >&2
  exit 1
}

mapfile -t missing < <(missing_packages)
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ] || ! has apt-get; then
    report_missing "${missing[@]}"
  fi
  echo "Installing ${missing[*]} ..."
  install_packages "${missing[@]}"
  mapfile -t missing < <(missing_packages)
  [ "${#missing[@]}" -eq 0 ] || report_missing "${missing[@]}"
fi

if [ ! -e node_modules/.installed ] || [ package.json -nt node_modules/.installed ]; then
  echo "Installing the Node.js clients into tests/node/node_modules ..."
  npm install --no-audit --no-fund --no-package-lock --loglevel=error </dev/null
  touch node_modules/.installed
fi
