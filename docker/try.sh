#!/usr/bin/env bash
# Builds the image and tries it: it is not root, its health check turns healthy, an event that is sent is found, it
# ends with 0 at SIGTERM, and after a new start on the same volume the event is there once. By hand; takes a minute:
#   docker/try.sh                                   with docker
#   ENGINE=podman RUN_FLAGS='--network host' BUILD_FLAGS='--format docker' docker/try.sh
set -euo pipefail
cd "$(dirname "$0")/.."
engine=${ENGINE:-docker}
name=mcp-ingest-try-$$
word=word$$

ingest() { "$engine" exec "$name" mcp-ingest "$@"; }
wait_for() { # DESCRIPTION COMMAND...: until the command succeeds, 30 s at the most
    for _ in $(seq 60); do
        if "${@:2}" >/dev/null 2>&1; then echo "ok: $1"; return; fi
        sleep 0.5
    done
    echo "FAILED: $1" >&2
    "$engine" logs "$name" >&2
    exit 1
}
healthy() { # podman without systemd has no timer: there the check is run
    [ "$("$engine" inspect --format '{{.State.Health.Status}}' "$name")" = healthy ] ||
        { [ "$engine" = podman ] && podman healthcheck run "$name"; }
}
start() { # the container as docker/compose.yaml has it: nothing to write to but its volume, no privilege
    # shellcheck disable=SC2086  # RUN_FLAGS are several words
    "$engine" run --detach --name "$name" --volume "$name:/var/lib/mcp-ingest" --read-only --tmpfs /tmp \
        --cap-drop ALL --security-opt no-new-privileges ${RUN_FLAGS:-} "$name" >/dev/null
    wait_for "healthy" healthy
}
stop() {
    "$engine" stop --time 30 "$name" >/dev/null
    code=$("$engine" inspect --format '{{.State.ExitCode}}' "$name")
    "$engine" rm "$name" >/dev/null
    [ "$code" = 0 ] || { echo "FAILED: exit code $code at SIGTERM" >&2; exit 1; }
    echo "ok: exit code 0 at SIGTERM"
}
once() { [ "$(ingest query "message:$word" --format ndjson | wc -l)" = 1 ]; }
trap '"$engine" rm --force "$name" >/dev/null 2>&1; "$engine" volume rm "$name" >/dev/null 2>&1; "$engine" rmi "$name" >/dev/null 2>&1' EXIT

# shellcheck disable=SC2086
"$engine" build ${BUILD_FLAGS:-} --file docker/Dockerfile --tag "$name" .
echo "size in bytes: $("$engine" image inspect --format '{{.Size}}' "$name")"
start
[ "$("$engine" exec "$name" id -u)" = 10001 ] || { echo "FAILED: it does not run as 10001" >&2; exit 1; }
echo "ok: not root"
ingest send --record "{\"message\": \"$word\", \"log_level\": \"INFO\", \"service_name\": \"try\"}"
wait_for "the event is found" once
ingest status
stop
start
wait_for "the event is there once after a new start" once
stop
