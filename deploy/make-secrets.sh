#!/usr/bin/env bash
# Writes what docker-compose.yml needs and must not be in it: .env with passwords, deploy/secrets with the keys.
# Existing files are kept: losing root.key is losing every dataset and version.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 077
hex() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
mkdir -p deploy/secrets
[ -e deploy/secrets/root.key ] || hex >deploy/secrets/root.key
[ -e deploy/secrets/pepper ] || printf '1:%s\n' "$(hex)" >deploy/secrets/pepper
chmod 644 deploy/secrets/root.key deploy/secrets/pepper # for the containers' own user, who gets the files alone; the folder is private
if [ ! -e .env ]; then
    for name in OWNER GATEWAY WORKER SCHEDULER ADMIN REDIS; do printf '%s_PASSWORD=%s\n' "$name" "$(hex)"; done >.env
fi
echo "wrote .env and deploy/secrets; keep a copy of deploy/secrets somewhere safe"
