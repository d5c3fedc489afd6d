# shellcheck shell=bash
# A Consul agent in development mode: nothing survives its end.

readonly CONSUL_VERSION=v1.20.0
# The submodule release that goes with it cannot be had with a verified checksum; its neighbour can.
readonly CONSUL_TROUBLESHOOT_VERSION=v0.7.1

consul_binary() { echo "$HOME_DIR/bin/consul-$CONSUL_VERSION"; }

# The module's own replace lines keep `go install` from building it; a module that only requires it can.
# The versions left out are those that consul's module file leaves out.
fetch_consul() {
  local build=$HOME_DIR/build/consul module=github.com/hashicorp/consul
  [[ ! -x $(consul_binary) ]] || return 0
  need go consul
  say "building consul $CONSUL_VERSION (takes minutes)"
  rm -rf "$build"
  mkdir -p "$build" "$HOME_DIR/bin"
  {
    go -C "$build" mod init services-consul &&
      go -C "$build" mod edit -exclude=github.com/hashicorp/go-msgpack@v1.1.5 -exclude=github.com/hashicorp/go-msgpack@v1.1.6 \
        -replace="$module/troubleshoot=$module/troubleshoot@$CONSUL_TROUBLESHOOT_VERSION" &&
      nice -n 19 go -C "$build" get "$module@$CONSUL_VERSION" &&
      CGO_ENABLED=0 nice -n 19 go -C "$build" build -trimpath -ldflags '-s -w' -o consul "$module"
  } >"$build/log" 2>&1 || { tail -n 20 "$build/log" >&2; die "consul $CONSUL_VERSION could not be built"; }
  mv "$build/consul" "$(consul_binary)"
}

# The agent's other ports lie above its HTTP port; DNS and gRPC are off.
spawn_consul() {
  local p=$CONSUL_PORT
  mkdir -p "$(dir_of consul)"
  spawn consul "$(consul_binary)" agent -dev -bind 127.0.0.1 -client 127.0.0.1 -http-port "$p" -dns-port -1 -grpc-port -1 \
    -grpc-tls-port -1 -server-port $((p + 1)) -serf-lan-port $((p + 2)) -serf-wan-port $((p + 3)) -log-level warn \
    -hcl 'disable_update_check = true'
}

# Registrations need a leader.
probe_consul() { [[ $(http_get "$CONSUL_PORT" /v1/status/leader) == *'"127.0.0.1:'* ]]; }

env_consul() { printf 'export %s\n' CONSUL_HOST=127.0.0.1 "CONSUL_PORT=$CONSUL_PORT" "CONSUL_HTTP_ADDR=127.0.0.1:$CONSUL_PORT"; }
