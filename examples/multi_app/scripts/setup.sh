#!/usr/bin/env bash
# Prepare standalone mode: make .env with a fresh master key. A key that is there is never replaced.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ ! -e .env ]; then
  (umask 077 && cp .env.example .env)
  echo "Created .env from .env.example."
fi
chmod 600 .env

if grep -qE '^MDB_ENGINE_MASTER_KEY=.+' .env; then
  echo "Kept the master key that .env already has."
  exit 0
fi

# 32 bytes from the kernel, as base64; written through a file so that no process list shows it.
next=$(mktemp .env.XXXXXX)
trap 'rm -f "$next"' EXIT
chmod 600 "$next"
{
  grep -v '^MDB_ENGINE_MASTER_KEY=' .env || true
  printf 'MDB_ENGINE_MASTER_KEY=%s\n' "$(head -c 32 /dev/urandom | base64)"
} > "$next"
mv "$next" .env
trap - EXIT
echo "Wrote a new master key to .env (readable by you alone). Keep a copy somewhere safe."
echo "Next: docker compose up --build --wait"
