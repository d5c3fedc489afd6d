# shellcheck shell=bash
# PostgreSQL from Debian's packages, with a cluster of its own.

postgres_bin() { compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1; }

# PostgreSQL refuses to run as root.
AS_POSTGRES=()
((EUID)) || AS_POSTGRES=(setpriv --reuid postgres --regid postgres --init-groups)

# Debian's package, kept from making a cluster of its own and so from starting one.
fetch_postgres() {
  [[ -z $(postgres_bin) ]] || return 0
  ((EUID == 0)) || die "postgresql is missing and only root can install it"
  say "installing postgresql"
  mkdir -p /etc/postgresql-common
  [[ -e /etc/postgresql-common/createcluster.conf ]] ||
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  apt_get install -y --no-install-recommends postgresql
}

# The superuser has no password and so cannot log in; the role may make databases, for tests that want their own.
init_postgres() { # DIR
  local new=$1/data.new
  rm -rf "$new"
  mkdir -p "$new"
  ((EUID)) || chown postgres:postgres "$new"
  "${AS_POSTGRES[@]}" test -x "$new" || die "the user postgres cannot enter $1; choose another SERVICES_HOME"
  "${AS_POSTGRES[@]}" "$(postgres_bin)/initdb" -D "$new" -U postgres -E UTF8 --locale=C.UTF-8 --no-sync >"$1/log" 2>&1 ||
    fail postgres "initdb failed"
  echo 'host all all 127.0.0.1/32 scram-sha-256' >"$new/pg_hba.conf"
  "${AS_POSTGRES[@]}" "$(postgres_bin)/postgres" --single -D "$new" postgres >>"$1/log" 2>&1 <<'SQL' ||
CREATE ROLE codegen LOGIN CREATEDB PASSWORD 'codegen'
CREATE DATABASE codegen_metrics OWNER codegen
SQL
    fail postgres "the database could not be made"
  mv "$new" "$1/data"
}

spawn_postgres() {
  local dir holder state
  dir=$(dir_of postgres)
  mkdir -p "$dir"
  [[ -d $dir/data ]] || init_postgres "$dir"
  # Where nobody reaps the dead, a killed server's pid looks taken, and PostgreSQL would trust its stale lock file.
  if { read -r holder <"$dir/data/postmaster.pid"; } 2>/dev/null && read -r state _ < <(process_stat "$holder") &&
    [[ $state == Z ]]; then
    rm "$dir/data/postmaster.pid"
  fi
  spawn postgres "${AS_POSTGRES[@]}" "$(postgres_bin)/postgres" -D "$dir/data" -p "$POSTGRES_PORT" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c wal_level=replica -c max_connections=200
}

probe_postgres() {
  PGPASSWORD=codegen PGCONNECT_TIMEOUT=5 "$(postgres_bin)/psql" -h 127.0.0.1 -p "$POSTGRES_PORT" -U codegen \
    -d codegen_metrics -XAtqc 'SELECT 1' >/dev/null 2>&1
}

env_postgres() { echo "export DATABASE_URL=postgres://codegen:codegen@127.0.0.1:$POSTGRES_PORT/codegen_metrics"; }
