# shellcheck shell=bash
# Prometheus and promtool from Debian's package.

# Debian's package is unpacked, not installed: no root is needed and no system service starts.
fetch_prometheus() {
  local build=$HOME_DIR/build/prometheus
  [[ ! -x $HOME_DIR/bin/promtool ]] || return 0
  need dpkg-deb prometheus
  say "fetching prometheus"
  rm -rf "$build"
  mkdir -p "$build" "$HOME_DIR/bin"
  (cd "$build" && apt_get download prometheus && dpkg-deb -x prometheus_*.deb .) || die "prometheus could not be unpacked"
  mv "$build"/usr/bin/{prometheus,promtool} "$HOME_DIR/bin/"
}

spawn_prometheus() {
  local dir
  dir=$(dir_of prometheus)
  mkdir -p "$dir"
  cat >"$dir/prometheus.yml" <<YAML
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: codegen-metrics-reducer
    static_configs:
      - targets: ['$SCRAPE_TARGET']
YAML
  spawn prometheus "$HOME_DIR/bin/prometheus" --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/data" \
    --web.listen-address="127.0.0.1:$PROMETHEUS_PORT" --log.level=warn
}

probe_prometheus() { [[ $(http_get "$PROMETHEUS_PORT" /-/ready) == *' 200 '* ]]; }

env_prometheus() {
  echo "export PROMETHEUS_URL=http://127.0.0.1:$PROMETHEUS_PORT"
  echo "export PROMTOOL='$HOME_DIR/bin/promtool'"
}
