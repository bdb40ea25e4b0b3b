#!/usr/bin/env bash
# Scratch clusters of the private PostgreSQL: a data folder and a socket folder, no TCP port, so that none can be in use.
#   cluster.sh start NAME [setting=value …]   makes the cluster if it is new, starts it if it does not run
#   cluster.sh standby NAME PRIMARY           makes and starts one that follows another
#   cluster.sh promote NAME                   ends its following
#   cluster.sh stop NAME [immediate]          immediate leaves what a crash leaves
#   cluster.sh restart|status NAME            status exits 3 when it does not run
#   cluster.sh destroy NAME                   stops it at once and removes every trace
#   cluster.sh environment NAME               prints PGHOST=… PGPORT=… PGUSER=… BINDIR=… DATA=… LOG=…
#   cluster.sh list                           prints the names
# SERVER_OPTIONS are options of the program postgres itself, for `start`.
# Whoever may enter the socket folder (mode 0700, the server's user) is superuser: there are no passwords.
source "$(dirname "$0")/environment.sh"

clusters=$place/clusters
port=5432

usage() {
    sed -n 's/^#   //p' "$0" >&2
    exit 2
}

pg_ctl() {
    as_server "$(private_bindir)/pg_ctl" --silent --pgdata "$data" "$@"
}

running() {
    pg_ctl status >/dev/null 2>&1
}

# Beside the data, unless the path of the socket would exceed the 107 bytes that the kernel takes.
make_socket_folder() {
    local folder=$home/socket
    if [ ${#folder} -gt 85 ]; then
        folder=$(mktemp -d /tmp/infinity_embed.XXXXXX)
    else
        mkdir -p "$folder"
    fi
    chmod 700 "$folder"
    [ -z "$server_user" ] || chown "$server_user" "$folder"
    echo "$folder" >"$home/socket_folder"
}

create() {
    mkdir -p "$clusters" "$home"
    [ -z "$server_user" ] || chown "$server_user" "$home"
    make_socket_folder
    as_server "$(private_bindir)/initdb" --pgdata "$data" --username postgres --auth trust --encoding UTF8 --locale C \
        --no-sync >"$home/initdb.log" 2>&1 || {
        cat "$home/initdb.log" >&2
        exit 1
    }
    # fsync off: a scratch cluster must survive the death of its processes, not that of the machine.
    cat >>"$data/postgresql.conf" <<-CONF
		listen_addresses = ''
		port = $port
		unix_socket_directories = '$(cat "$home/socket_folder")'
		fsync = off
		log_line_prefix = '%m [%p] %q%d '
	CONF
    touch "$home/complete"
}

start() {
    local setting
    if [ ! -f "$home/complete" ]; then
        destroy
        create
    fi
    # The folder in /tmp may be gone after a reboot.
    [ -d "$(cat "$home/socket_folder")" ] || {
        make_socket_folder
        echo "unix_socket_directories = '$(cat "$home/socket_folder")'" >>"$data/postgresql.conf"
    }
    for setting in "$@"; do
        printf "%s = '%s'\n" "${setting%%=*}" "$(sed "s/'/''/g" <<<"${setting#*=}")" >>"$data/postgresql.conf"
    done
    running || pg_ctl start --wait --log "$home/server.log" --options "${SERVER_OPTIONS:-}" </dev/null || {
        tail -n 20 "$home/server.log" >&2
        die "cluster $name did not start; its log is $home/server.log"
    }
}

# Its postgresql.conf is the primary's, but for the folder of the socket.
standby() {
    local primary
    primary=$(cat "$clusters/$1/socket_folder")
    destroy
    mkdir -p "$home"
    [ -z "$server_user" ] || chown "$server_user" "$home"
    make_socket_folder
    as_server "$(private_bindir)/pg_basebackup" --host "$primary" --port "$port" --username postgres --pgdata "$data" \
        --write-recovery-conf --checkpoint fast --no-sync
    echo "unix_socket_directories = '$(cat "$home/socket_folder")'" >>"$data/postgresql.conf"
    touch "$home/complete"
    start
}

stop() {
    ! running || pg_ctl stop --wait --mode "${1:-fast}"
}

destroy() {
    [ -d "$home" ] || return 0
    [ ! -f "$data/PG_VERSION" ] || stop immediate
    [ ! -f "$home/socket_folder" ] || rm -rf "$(cat "$home/socket_folder")"
    rm -rf "$home"
    rmdir "$clusters" 2>/dev/null || true
}

environment() {
    [ -f "$home/complete" ] || die "there is no cluster $name"
    printf '%s\n' "PGHOST=$(cat "$home/socket_folder")" "PGPORT=$port" "PGUSER=postgres" \
        "BINDIR=$(private_bindir)" "DATA=$data" "LOG=$home/server.log"
}

command=${1:-}
if [ "$command" = list ]; then
    [ ! -d "$clusters" ] || ls "$clusters"
    exit
fi
name=${2:-}
[[ $name =~ ^[a-z0-9_-]+$ ]] || usage
home=$clusters/$name
data=$home/data
shift 2
case $command in
start) start "$@" ;;
stop) stop "$@" ;;
restart) stop && start "$@" ;;
standby) standby "$@" ;;
promote) pg_ctl promote --wait ;;
destroy) destroy ;;
environment) environment ;;
status)
    running || { echo "cluster $name does not run" && exit 3; }
    echo "cluster $name runs"
    ;;
*) usage ;;
esac
